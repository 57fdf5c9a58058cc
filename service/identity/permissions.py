"""Who may do what: the one place that decides."""

from __future__ import annotations

from service.channels import Access, Namespace, parse
from service.errors import ReplyError, permission_denied
from service.identity.identity import Action, Grant, Identity


def permitted(
    identity: Identity, grant: Grant | None, namespace: Namespace, channel: str, action: Action
) -> bool:
    """Whether a client may do this with a channel of this namespace.

    Args:
        grant: of the subscription token that the client has shown for the channel, if it has.
    """
    if action == "moderate":
        return moderates(identity, grant, channel)
    granted = _granted(identity, grant, channel, action)
    access: Access = getattr(namespace, action)
    if access == "nobody":  # whatever a token says: feeds stay closed to clients
        return False
    if namespace.personal and (not identity.user or parse(channel).rest != identity.user):
        return False
    if granted or access == "anonymous":
        return True
    return access == "authenticated" and bool(identity.user)


def moderates(identity: Identity, grant: Grant | None, channel: str) -> bool:
    """Whether a token puts a user above all roles of a room: bans do not hold there, either."""
    return bool(identity.user) and _granted(identity, grant, channel, "moderate")


def _granted(identity: Identity, grant: Grant | None, channel: str, action: Action) -> bool:
    return identity.has(channel, action) or (grant is not None and action in grant.actions)


def refusal(identity: Identity, namespace: Namespace, action: Action) -> ReplyError:
    """What a client is told that is not permitted to: also whether it would help to sign in."""
    if not identity.user and getattr(namespace, action, None) == "authenticated":
        return permission_denied("permission denied: sign in first")
    return permission_denied()
