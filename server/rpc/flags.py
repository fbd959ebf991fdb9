"""Serve flagstaff.v1.FlagService: manage flags."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Engine

from protos.flagstaff.v1 import flags_pb2 as messages
from server.core.access import Action, Principal, Scope
from server.core.edits import (
    AddRule,
    FlagEdit,
    MoveRule,
    RemoveRule,
    ReorderRules,
    ReplaceRule,
    SetDefault,
    SetEnabled,
    SetOffVariant,
    SetPrerequisites,
    SetTargets,
    SetVariants,
    UpdateConfig,
    UpdateFlag,
)
from server.core.errors import InvalidRequest
from server.core.flags import ValueType
from server.operations.flag_documents import export_documents, import_documents
from server.operations.flags import PAGE_SIZE, SIMPLE, Copy, Flags, NewFlag, completed
from server.operations.writes import Outcome, Write, Writer, Written
from server.rpc import flag_messages as convert
from server.rpc import flag_replies as replies
from server.rpc.flag_documents import FORMATS, imported_reply, read_documents, read_manner
from server.rpc.management import Management, named, result_of
from server.rpc.table import Table, merge
from server.store.flags import Archived, FlagFilter, Order, Page, StoredFlag

SERVICE: Final = "flagstaff.v1.FlagService"

_ARCHIVED: Final[Mapping[int, Archived]] = {
    0: Archived.LEFT_OUT,
    **{messages.FlagFilter.Archived.Value(f"ARCHIVED_{each.name}"): each for each in Archived},
}


def flag_table(management: Management, engine: Engine, writer: Writer) -> Table:
    """The service's handlers."""
    service = _Flags(engine, writer)
    return merge(
        management.reads(
            SERVICE,
            {
                "GetFlag": (messages.GetFlagRequest, service.get),
                "ListFlags": (messages.ListFlagsRequest, service.list),
                "ExportFlags": (messages.ExportFlagsRequest, service.export),
            },
        ),
        management.writes(
            SERVICE,
            {
                "CreateFlag": (messages.CreateFlagRequest, service.create),
                "UpdateFlag": (messages.UpdateFlagRequest, service.update),
                "SetVariants": (messages.SetVariantsRequest, service.set_variants),
                "ArchiveFlag": (messages.ArchiveFlagRequest, service.archive),
                "RestoreFlag": (messages.RestoreFlagRequest, service.restore),
                "DeleteFlag": (messages.DeleteFlagRequest, service.delete),
                "EnableFlags": (messages.EnableFlagsRequest, service.enable),
                "DisableFlags": (messages.DisableFlagsRequest, service.disable),
                "KillFlags": (messages.KillFlagsRequest, service.kill),
                "UpdateFlagConfig": (messages.UpdateFlagConfigRequest, service.edits(_update_config)),
                "SetTargets": (messages.SetTargetsRequest, service.edits(_set_targets)),
                "AddRule": (messages.AddRuleRequest, service.edits(_add_rule)),
                "ReplaceRule": (messages.ReplaceRuleRequest, service.edits(_replace_rule)),
                "RemoveRule": (messages.RemoveRuleRequest, service.edits(_remove_rule)),
                "MoveRule": (messages.MoveRuleRequest, service.edits(_move_rule)),
                "ReorderRules": (messages.ReorderRulesRequest, service.edits(_reorder_rules)),
                "SetOffVariant": (messages.SetOffVariantRequest, service.edits(_set_off_variant)),
                "SetDefaultRule": (messages.SetDefaultRuleRequest, service.edits(_set_default)),
                "SetPrerequisites": (messages.SetPrerequisitesRequest, service.edits(_set_prerequisites)),
                "CopyFlagConfigs": (messages.CopyFlagConfigsRequest, service.copy),
                "ImportFlags": (messages.ImportFlagsRequest, service.import_),
            },
        ),
    )


class _Flags:
    def __init__(self, engine: Engine, writer: Writer) -> None:
        self._engine, self._writer, self._flags = engine, writer, Flags(engine, writer)

    def get(self, request: messages.GetFlagRequest, _principal: Principal) -> messages.GetFlagResponse:
        named(request, "project", "key")
        stored = self._flags.get(request.project, request.key, environment=request.environment)
        return messages.GetFlagResponse(flag=replies.flag_message(stored), configs=replies.config_messages(stored))

    def list(self, request: messages.ListFlagsRequest, _principal: Principal) -> messages.ListFlagsResponse:
        named(request, "project")
        page = _page(request)
        listed = self._flags.list(
            request.project,
            environment=request.environment,
            wanted=_filter(request.filter),
            page=page,
            with_configs=request.with_configs,
        )
        return messages.ListFlagsResponse(
            flags=[
                messages.ListedFlag(
                    flag=replies.flag_message(stored),
                    configs=replies.config_messages(stored, whole=request.with_configs),
                )
                for stored in listed.flags
            ],
            next_page_token="" if listed.is_last else _token(request, listed.flags[-1]),
            total_size=listed.total,
        )

    def create(self, request: messages.CreateFlagRequest, write: Write) -> messages.FlagResponse:
        named(request, "project", "flag")
        message = request.flag
        is_simple = not message.variants and message.type in (0, convert.number_of(ValueType.BOOLEAN))
        if is_simple:
            message.variants.extend(replies.variant_messages(SIMPLE))
        flag = convert.read_flag_message(message)
        config = convert.read_config_message(flag.key, request.config, flag=flag)
        if is_simple:
            config = completed(config)
        new = NewFlag(flag, config, tuple(request.environments), frozenset(request.enabled_in))
        return self._answer(request, flag.key, self._flags.create(request.project, new, write), write)

    def update(self, request: messages.UpdateFlagRequest, write: Write) -> messages.FlagResponse:
        named(request, "project", "flag")
        fields = convert.flag_fields(request.update_mask)
        flag = convert.read_flag_message(request.flag, whole="variants" in fields)
        written = self._flags.edit_shared(
            request.project, UpdateFlag(flag.key, flag, fields), write, replace_variants=request.replace_variants
        )
        return self._answer(request, flag.key, written, write)

    def set_variants(self, request: messages.SetVariantsRequest, write: Write) -> messages.FlagResponse:
        named(request, "project", "key")
        put = convert.read_variants_message(request.key, request.put)
        edit = SetVariants(request.key, put, tuple(request.remove))
        written = self._flags.edit_shared(request.project, edit, write, replace_variants=request.replace_variants)
        return self._answer(request, request.key, written, write)

    def archive(self, request: messages.ArchiveFlagRequest, write: Write) -> messages.FlagResponse:
        named(request, "project", "key")
        return self._answer(request, request.key, self._flags.archive(request.project, request.key, write), write)

    def restore(self, request: messages.RestoreFlagRequest, write: Write) -> messages.FlagResponse:
        named(request, "project", "key")
        written = self._flags.restore(request.project, request.key, write)
        return self._answer(request, request.key, written, write)

    def delete(self, request: messages.DeleteFlagRequest, write: Write) -> messages.FlagResponse:
        named(request, "project", "key")
        written = self._flags.delete(request.project, request.key, write, force=request.force)
        return messages.FlagResponse(result=result_of(written))

    def enable(self, request: messages.EnableFlagsRequest, write: Write) -> messages.FlagsResponse:
        return self._switch(request, write, enabled=True)

    def disable(self, request: messages.DisableFlagsRequest, write: Write) -> messages.FlagsResponse:
        return self._switch(request, write, enabled=False)

    def kill(self, request: messages.KillFlagsRequest, write: Write) -> messages.FlagsResponse:
        named(request, "project", "keys")
        if request.everywhere == bool(request.environment):
            raise InvalidRequest("KillFlagsRequest needs an environment, or `everywhere`, and not both")
        written = self._flags.kill(request.project, request.keys, write, environment=request.environment)
        return messages.FlagsResponse(result=result_of(written))

    def copy(self, request: messages.CopyFlagConfigsRequest, write: Write) -> messages.FlagsResponse:
        named(request, "project", "environment", "from_environment")
        copy = Copy(
            source=request.from_environment,
            target=request.environment,
            keys=tuple(request.keys),
            with_state=request.with_state,
            with_segments=request.with_segments,
            rerandomise=request.rerandomise,
        )
        return messages.FlagsResponse(result=result_of(self._flags.copy(request.project, copy, write)))

    def import_(self, request: messages.ImportFlagsRequest, write: Write) -> messages.ImportFlagsResponse:
        named(request, "project", "environment", "document")
        documents = read_documents(request)
        manner = read_manner(request)
        return imported_reply(
            import_documents(self._engine, self._writer, documents, write, project=request.project, manner=manner)
        )

    def export(self, request: messages.ExportFlagsRequest, _principal: Principal) -> messages.ExportFlagsResponse:
        named(request, "project")
        format = FORMATS.get(request.format)
        if format is None:
            raise InvalidRequest(f"{request.format} is no DocumentFormat")
        exported = export_documents(
            self._engine, project=request.project, environment=request.environment, format=format
        )
        return messages.ExportFlagsResponse(
            exports=[
                messages.ExportedFlags(environment=each.environment, revision=each.revision, document=each.text)
                for each in exported
            ]
        )

    def edits(self, read: Callable[[Any], FlagEdit]) -> Callable[[Any, Write], messages.FlagResponse]:
        """A method that makes one edit of one flag in one environment."""

        def method(request: Any, write: Write) -> messages.FlagResponse:
            named(request, "project", "environment", "key")
            written = self._flags.edit(request.project, request.environment, [read(request)], write)
            return self._answer(request, request.key, written, write, environment=request.environment)

        return method

    def _switch(self, request: Any, write: Write, *, enabled: bool) -> messages.FlagsResponse:
        named(request, "project", "environment", "keys")
        edits = [SetEnabled(key, enabled) for key in request.keys]
        return messages.FlagsResponse(
            result=result_of(self._flags.edit(request.project, request.environment, edits, write))
        )

    def _answer(
        self, request: Any, key: str, written: Written, write: Write, *, environment: str = ""
    ) -> messages.FlagResponse:
        response = messages.FlagResponse(result=result_of(written))
        if write.trial is not None or written.outcome not in (Outcome.APPLIED, Outcome.UNCHANGED):
            return response
        stored = self._flags.find(request.project, key)
        if stored is not None:
            seen = [
                config
                for config in stored.configs
                if environment in ("", config.environment)
                and write.principal.may(Action.READ, Scope(request.project, config.environment))
            ]
            response.flag.CopyFrom(replies.flag_message(stored))
            response.configs.extend(replies.config_messages(replace(stored, configs=tuple(seen))))
        return response


def _update_config(request: messages.UpdateFlagConfigRequest) -> FlagEdit:
    fields = convert.config_fields(request.update_mask)
    config = convert.read_config_message(request.key, request.config)
    return UpdateConfig(request.key, config, fields, request.rerandomise)


def _set_targets(request: messages.SetTargetsRequest) -> FlagEdit:
    return SetTargets(request.key, convert.read_targets_message(request.key, request.add), tuple(request.remove))


def _add_rule(request: messages.AddRuleRequest) -> FlagEdit:
    rule = convert.read_rule_message(request.key, request.rule)
    return AddRule(request.key, rule, convert.read_position(request.position))


def _replace_rule(request: messages.ReplaceRuleRequest) -> FlagEdit:
    return ReplaceRule(request.key, convert.read_rule_message(request.key, request.rule), request.rerandomise)


def _remove_rule(request: messages.RemoveRuleRequest) -> FlagEdit:
    named(request, "rule_id")
    return RemoveRule(request.key, request.rule_id)


def _move_rule(request: messages.MoveRuleRequest) -> FlagEdit:
    named(request, "rule_id")
    return MoveRule(request.key, request.rule_id, convert.read_position(request.position))


def _reorder_rules(request: messages.ReorderRulesRequest) -> FlagEdit:
    return ReorderRules(request.key, tuple(request.rule_ids))


def _set_off_variant(request: messages.SetOffVariantRequest) -> FlagEdit:
    return SetOffVariant(request.key, request.variant if request.HasField("variant") else None)


def _set_default(request: messages.SetDefaultRuleRequest) -> FlagEdit:
    serve = convert.read_serve_message(request.key, request.serve)
    return SetDefault(request.key, serve, request.rerandomise)


def _set_prerequisites(request: messages.SetPrerequisitesRequest) -> FlagEdit:
    return SetPrerequisites(request.key, convert.read_prerequisites_message(request.key, request.prerequisites))


def _filter(message: messages.FlagFilter) -> FlagFilter:
    archived = _ARCHIVED.get(message.archived)
    if archived is None:
        raise InvalidRequest(f"{message.archived} is no FlagFilter.Archived")
    states: dict[str, bool] = {}
    for state in message.states:
        if not state.environment:
            raise InvalidRequest("a filter by state needs the environment in which a flag is on or off")
        if states.setdefault(state.environment, state.enabled) is not state.enabled:
            raise InvalidRequest(f"no flag is on and off in {state.environment!r}; ask for one of them")
    return FlagFilter(
        text=message.text,
        tags=tuple(message.tags),
        owner=message.owner,
        kinds=convert.flag_kinds(message.kinds),
        types=convert.value_types(message.types),
        states=states,
        archived=archived,
    )


def _page(request: messages.ListFlagsRequest) -> Page:
    order, _, direction = request.order_by.partition(" ")
    if direction not in ("", "asc", "desc") or order not in ("", *Order):
        raise InvalidRequest(
            f"order_by is {request.order_by!r}, expected one of: {', '.join(Order)}; ` desc` may follow"
        )
    page = Page(Order(order or Order.KEY), direction == "desc", size=request.page_size or PAGE_SIZE)
    return replace(page, after=_after(request, page)) if request.page_token else page


def _token(request: messages.ListFlagsRequest, last: StoredFlag) -> str:
    text = json.dumps([_digest(request), last.sorted_by, last.key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def _after(request: messages.ListFlagsRequest, page: Page) -> tuple[str | int, str]:
    try:
        given = json.loads(base64.urlsafe_b64decode(request.page_token.encode("ascii", "replace")))
    except (binascii.Error, ValueError, RecursionError):
        given = None
    kind = int if page.order is Order.VERSION else str
    match given:
        case [str(digest), value, str(key)] if type(value) is kind and digest == _digest(request):
            return value, key
    raise InvalidRequest("page_token is not one of this list; it is good for the same filter and order only")


def _digest(request: messages.ListFlagsRequest) -> str:
    """What a page token is good for: the list, whichever of its pages."""
    same = messages.ListFlagsRequest()
    same.CopyFrom(request)
    for name in ("page_token", "page_size", "with_configs"):
        same.ClearField(name)
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()[:16]
