/** Copies text, also over plain http, where browsers hide the clipboard from pages. */
export async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement('textarea');
  field.value = text;
  field.className = 'hidden-visually';
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
}
