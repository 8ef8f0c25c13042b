"""How a webhook proves where it comes from: the signatures of Standard Webhooks 1.0.0.

A secret is 32 random bytes, shown as `whsec_` and base64. Signed are the delivery's id, the time of this attempt and
the body, with full stops between, by HMAC-SHA256. The time is new at each attempt, so a receiver may refuse old ones;
the id is not, so it may refuse repeats. While a secret is being changed both the new one and the one before sign.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

SECRET_BYTES = 32  # the specification asks for 24 to 64


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def shown(secret: bytes) -> str:
    """As its owner gets it, once."""
    return f"whsec_{base64.b64encode(secret).decode()}"


def signed_headers(keys: Sequence[bytes], delivery: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(key, delivery, timestamp_s, body) for key in keys),
    }


def _signature(key: bytes, delivery: str, timestamp_s: int, body: bytes) -> str:
    digest = hmac.new(key, f"{delivery}.{timestamp_s}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
