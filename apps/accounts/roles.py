"""Who may do what: the one table of roles, kept in Django's groups and permissions.

What stands here is what holds: `roles_sync` (after every migrate, and `manage.py roles sync`) gives each group exactly
these permissions. People are given roles, never permissions of their own.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

from apps.accounts.audit import audit_record
from apps.accounts.models import User
from apps.core.errors import Conflict, DomainError, NotFound


class Role(StrEnum):
    """The names of the groups. Everybody is a customer; the others may use the admin."""

    CUSTOMER = "customer"
    SUPPORT = "support"
    OPERATOR = "operator"
    TREASURER = "treasurer"
    ADMIN = "admin"


STAFF_ROLES = (Role.SUPPORT, Role.OPERATOR, Role.TREASURER, Role.ADMIN)


def _can(app: str, verbs: str, *models: str) -> set[str]:
    return {f"{app}.{verb}_{model}" for verb in verbs.split() for model in models}


# What customers ask about. No key, no endpoint, no signer's rule is in it.
_READ = (
    _can("accounts", "view", "user", "apikey", "session", "dataexport")
    | _can("launch", "view", "platformstate", "waitlistentry", "invitationbatch", "invitation")
    | _can("mail", "view", "message", "suppression", "unsubscription", "providerevent")
    | _can("notifications", "view", "digest", "untold")
    | _can("stream", "view", "openstream")
    | _can("core", "view", "asset")
    | _can("ledger", "view", "account", "journal", "entry")
    | _can("chain", "view", "network", "token", "outboundtransaction", "transactionattempt", "recheck")
    | _can("treasury", "view", "pause", "reservessnapshot")
    | _can(
        "deposits", "view", "deposit", "depositaddress", "depositrule", "holding", "sweep", "scan", "rescan"
    )
    | _can(
        "withdrawals", "view", "withdrawal", "withdrawalapproval", "withdrawalrule", "withdrawaldestination"
    )
    | _can("providers", "view", "market", "marketroute", "venue", "pricefeed")
    | _can("fees", "view", "feeschedule")
    | _can("plans", "view", "plan", "slot", "batch")
)

# Keeps the buying going: plans, providers, the chain's plumbing, and what has to be tried again.
_OPERATE = (
    _can("plans", "change", "plan")
    | _can("providers", "add change delete", "market", "marketroute", "venue", "pricefeed")
    | _can("fees", "add", "feeschedule")
    | _can("core", "add change", "asset")
    | _can("launch", "change", "platformstate")
    | _can("launch", "add change", "invitationbatch")
    | _can("launch", "export", "waitlistentry")
    | _can("mail", "change", "message", "suppression")
    | _can("chain", "change", "network", "token", "outboundtransaction", "recheck")
    | _can("chain", "view add change delete", "rpcendpoint")
    | _can("deposits", "add change", "depositrule")
    | _can("deposits", "add", "rescan")
    | _can("treasury", "add", "pause")
    | _can(
        "django_celery_beat",
        "view",
        "periodictask",
        "intervalschedule",
        "crontabschedule",
        "solarschedule",
        "clockedschedule",
    )
    | {"accounts.freeze_user"}
)

# Moves money, or says how much of it may move.
_TREASURE = (
    _can("withdrawals", "change", "withdrawal")
    | _can("withdrawals", "add change", "withdrawalrule")
    | _can("deposits", "change", "deposit", "sweep")
    | _can("ledger", "change", "journal")
    | _can("treasury", "add change", "pause")
    | _can("chain", "change", "recheck")
    | _can("chain", "view change", "wallet")
    | _can("chain", "view add change delete", "walletcap", "signerrule")
    | {"accounts.freeze_user"}
)

# People and roles, and the log of what everybody did. Letters of the database transport show codes, with which one
# could sign in as somebody else: they are for who may set passwords anyhow.
_ADMINISTER = (
    _can("accounts", "add change", "user")
    | _can("accounts", "change", "apikey", "session")
    | _can("mail", "view", "letter")
    | _can("accounts", "view", "auditrecord", "auditcheck")
    | {"accounts.grant_role", "accounts.freeze_user"}
)

PERMISSIONS: Mapping[Role, frozenset[str]] = {
    Role.CUSTOMER: frozenset(),
    Role.SUPPORT: frozenset(_READ),
    Role.OPERATOR: frozenset(_READ | _OPERATE),
    Role.TREASURER: frozenset(_READ | _TREASURE),
    Role.ADMIN: frozenset(_can("accounts", "view", "user", "apikey", "session", "dataexport") | _ADMINISTER),
}


def roles_sync() -> dict[Role, tuple[list[str], list[str]]]:
    """Make the groups say what the table says; returns per changed role what was added and what was removed.

    Raises `DomainError` for a permission that does not exist. Safe to repeat, and twice at once.
    """
    changed = {}
    with transaction.atomic():
        Group.objects.bulk_create([Group(name=role) for role in Role], ignore_conflicts=True)
        groups = {
            group.name: group
            for group in Group.objects.select_for_update(no_key=True).filter(name__in=list(Role))
        }
        ids = _permission_ids(frozenset().union(*PERMISSIONS.values()))
        names = {pk: name for name, pk in ids.items()}
        held: dict[int, set[int]] = {group.pk: set() for group in groups.values()}
        for group_id, permission_id in Group.permissions.through.objects.filter(
            group__in=groups.values()
        ).values_list("group_id", "permission_id"):
            held[group_id].add(permission_id)
        for role, wanted in PERMISSIONS.items():
            group = groups[role]
            now, then = {ids[name] for name in wanted}, held[group.pk]
            if now == then:
                continue
            group.permissions.add(*now - then)
            group.permissions.remove(*then - now)
            removed = sorted(names.get(pk, str(pk)) for pk in then - now)
            changed[role] = (sorted(names[pk] for pk in now - then), removed)
            audit_record(
                actor="roles sync",
                action="role.synced",
                target_type="role",
                target_id=role,
                before={"removed": removed},
                after={"added": changed[role][0]},
            )
    return changed


def _permission_ids(names: Iterable[str]) -> dict[str, int]:
    wanted = set(names)
    rows = Permission.objects.values_list("content_type__app_label", "codename", "pk")
    found = {f"{app}.{codename}": pk for app, codename, pk in rows}
    if missing := sorted(wanted - found.keys()):
        raise DomainError("unknown_permission", f"No such permissions: {', '.join(missing)}.")
    return {name: found[name] for name in wanted}


def after_migrate(*, plan: Any = None, apps: Any = None, **_: Any) -> None:
    """`post_migrate` of the last app. A migrate that stopped half-way, or went back, has not everything yet."""
    del plan
    if apps is not None and "auditrecord" not in apps.all_models.get("accounts", {}):
        return
    roles_sync()


def role_grant(*, user_id: UUID, role: Role, actor: User | str) -> bool:
    """Give a person a role, from their next request on; False when they had it. Raises `NotFound`, `Conflict`."""
    return _role_set(user_id, role, actor, given=True)


def role_revoke(*, user_id: UUID, role: Role, actor: User | str) -> bool:
    """Take a role; False when they did not have it. The last role's end is the end of the admin for them.

    Raises `NotFound`, `Conflict` (one's own roles, the last administrator).
    """
    return _role_set(user_id, role, actor, given=False)


def _role_set(user_id: UUID, role: Role, actor: User | str, *, given: bool) -> bool:
    if role not in STAFF_ROLES:
        raise DomainError("not_a_staff_role", "Everybody is a customer: there is nothing to give or take.")
    if isinstance(actor, User) and actor.pk == user_id:
        raise Conflict("own_roles", "Nobody changes their own roles.")
    with transaction.atomic():
        # The group's row is the lock: two administrators cannot take each other's last role at the same time.
        group = Group.objects.select_for_update(no_key=True).get(name=role)
        user = User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
        if user is None:
            raise NotFound("No such person.")
        before = roles_of(user)
        if (role in before) is given:
            return False
        if given:
            user.groups.add(group)
        else:
            if role is Role.ADMIN and not _administrators(but=user_id):
                raise Conflict("last_administrator", "Somebody has to be able to give roles.")
            user.groups.remove(group)
        after = sorted({*before, role} if given else {*before} - {role})
        user.is_staff = bool(after) or user.is_superuser
        user.save(update_fields=["is_staff"])
        audit_record(
            actor=actor,
            action="role.granted" if given else "role.revoked",
            target_type="user",
            target_id=user_id,
            before={"roles": before},
            after={"roles": after},
        )
    return True


def _administrators(*, but: UUID) -> bool:
    may = Q(groups__name=Role.ADMIN) | Q(is_superuser=True)
    return User.objects.filter(may, is_active=True).exclude(pk=but).exists()


def roles_of(user: User) -> list[str]:
    """The staff roles of a person, in the table's order of names."""
    return sorted(user.groups.filter(name__in=STAFF_ROLES).values_list("name", flat=True))


def role_holders() -> dict[Role, list[User]]:
    """Who has which staff role, by email."""
    people = User.objects.order_by("email")
    return {role: list(people.filter(groups__name=role)) for role in STAFF_ROLES}
