/** Who may do what, so that no button is offered that the server would refuse. The server decides all the same. */

import type { Message, Role, StudioRole } from '../protocol/words';
import { MAX_FOLLOWED_MEMBERS } from './receipts';
import type { ConversationState } from './studio';

type Of = Pick<ConversationState, 'role' | 'kind'>;

export const maySend = ({ role }: Of): boolean => isOneOf(role, 'owner', 'moderator', 'member');
export const mayReact = ({ role }: Of): boolean => role !== null;
export const mayStop = maySend;
export const mayModerate = ({ role }: Of): boolean => isOneOf(role, 'owner', 'moderator');
export const mayInvite = (of: Of): boolean => of.kind !== 'private' && mayModerate(of);
export const mayChangeSettings = mayInvite;
export const mayManageWebhooks = mayInvite;
export const mayGiveRoles = ({ role, kind }: Of): boolean => kind !== 'private' && role === 'owner';
export const mayDeleteConversation = ({ role }: Of): boolean => role === 'owner';

/** Rooms in which everybody can still know who has read what. */
export function mayFollowReaders({ kind, memberCount }: Pick<ConversationState, 'kind' | 'memberCount'>): boolean {
  return kind === 'room' && memberCount > 1 && memberCount <= MAX_FOLLOWED_MEMBERS;
}

/** The operator answers for how long things are kept, beside whom they belong to. */
export function maySetRetention({ role, kind }: Of, studioRole: StudioRole): boolean {
  return kind !== 'private' && (role === 'owner' || (role !== null && studioRole === 'admin'));
}

export function mayEdit(of: Of, message: Message, me: string | undefined): boolean {
  return maySend(of) && isLiving(message) && message.actor.kind === 'user' && message.actor.id === me;
}

export function mayDelete(of: Of, message: Message, me: string | undefined): boolean {
  return isLiving(message) && message.run?.status !== 'running' && (mayEdit(of, message, me) || mayModerate(of));
}

/** Owners are above moderators, and nobody shows himself the door here. */
export function mayKick(of: Of, other: { readonly id: string; readonly role: Role }, me: string | undefined): boolean {
  return mayInvite(of) && other.id !== me && (of.role === 'owner' || isOneOf(other.role, 'member', 'reader'));
}

function isLiving(message: Message): boolean {
  return message.deleted_at === null;
}

function isOneOf(role: Role | null, ...roles: Role[]): boolean {
  return role !== null && roles.includes(role);
}
