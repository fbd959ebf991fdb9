"""Say what each gRPC method does, as far as access is concerned; a method that stands here nowhere is refused."""

from collections.abc import Iterable, Mapping
from typing import Final

from server.core.access import Action


def _methods(service: str, names: Mapping[Action, Iterable[str]]) -> dict[str, Action]:
    return {f"/{service}/{name}": action for action, each in names.items() for name in each}


_FLAGD: Final = ("ResolveBoolean", "ResolveString", "ResolveFloat", "ResolveInt", "ResolveObject", "EventStream")

ACTIONS: Final[Mapping[str, Action]] = {
    **_methods("grpc.health.v1.Health", {Action.PUBLIC: ("Check", "List", "Watch")}),
    **_methods("grpc.reflection.v1.ServerReflection", {Action.IDENTIFY: ("ServerReflectionInfo",)}),
    **_methods("grpc.reflection.v1alpha.ServerReflection", {Action.IDENTIFY: ("ServerReflectionInfo",)}),
    **_methods(
        "flagstaff.v1.EvaluationService",
        {Action.EVALUATE: ("Evaluate", "EvaluateBatch", "EvaluateStream", "Watch")},
    ),
    **_methods(
        "flagstaff.v1.FlagService",
        {
            Action.READ: ("GetFlag", "ListFlags", "ExportFlags"),
            Action.KILL: ("KillFlags",),
            Action.EDIT: (
                "CreateFlag",
                "UpdateFlag",
                "SetVariants",
                "ArchiveFlag",
                "RestoreFlag",
                "DeleteFlag",
                "EnableFlags",
                "DisableFlags",
                "UpdateFlagConfig",
                "SetTargets",
                "AddRule",
                "ReplaceRule",
                "RemoveRule",
                "MoveRule",
                "ReorderRules",
                "SetOffVariant",
                "SetDefaultRule",
                "SetPrerequisites",
                "CopyFlagConfigs",
                "ImportFlags",
            ),
        },
    ),
    **_methods(
        "flagstaff.v1.ActionService",
        # What there is to do is no secret; who may do what is asked where it is done.
        {Action.IDENTIFY: ("ListActions", "RunAction")},
    ),
    **_methods("flagd.evaluation.v1.Service", {Action.EVALUATE: ("ResolveAll", *_FLAGD)}),
    **_methods("flagd.evaluation.v2.Service", {Action.EVALUATE: _FLAGD}),
    **_methods("flagd.sync.v1.FlagSyncService", {Action.SYNC: ("SyncFlags", "FetchAllFlags", "GetMetadata")}),
    **_methods(
        "flagstaff.v1.AuditService",
        {
            Action.READ: (
                *("ListAuditEntries", "ListAuditTrails", "WatchAuditEntries", "ExportAuditEntries", "GetAuditHead"),
                "VerifyAuditTrail",
            ),
        },
    ),
    **_methods(
        "flagstaff.v1.ChangeRequestService",
        {
            Action.READ: ("GetChangeRequest", "ListChangeRequests"),
            Action.PROPOSE: ("CommentOnChangeRequest", "UpdateChangeRequest", "WithdrawChangeRequest"),
            Action.APPROVE: ("ApproveChangeRequest", "RejectChangeRequest"),
            Action.EDIT: ("ApplyChangeRequest", "ScheduleChangeRequest"),
        },
    ),
    **_methods(
        "flagstaff.v1.EventService",
        {
            Action.READ: ("ListEvents", "WatchEvents"),
            # What can happen is no secret.
            Action.IDENTIFY: ("ListEventTypes",),
        },
    ),
    **_methods(
        "flagstaff.v1.GuardService",
        {
            Action.READ: (
                *("GetGuard", "ListGuards", "GetRollbackPolicy", "ListRollbackPolicies"),
                *("ListEvaluations", "WatchGuards"),
            ),
            Action.EDIT: (
                *("CreateGuard", "UpdateGuard", "DeleteGuard"),
                *("CreateRollbackPolicy", "UpdateRollbackPolicy", "DeleteRollbackPolicy"),
                *("ArmRollbackPolicy", "DisarmRollbackPolicy"),
            ),
            Action.SIGNAL: ("Signal", "Heartbeat"),
        },
    ),
    **_methods(
        "flagstaff.v1.HookService",
        {
            Action.READ: ("GetHook", "ListHooks", "ListDeliveries", "GetDelivery"),
            Action.SUBSCRIBE: (
                *("CreateHook", "UpdateHook", "DeleteHook", "RotateHookSecret", "EnableHook", "DisableHook"),
                *("TestHook", "ReplayDeliveries"),
            ),
            # What can be sent is no secret.
            Action.IDENTIFY: ("ListFormats",),
        },
    ),
    **_methods(
        "flagstaff.v1.ScheduleService",
        {
            Action.READ: ("GetSchedule", "ListSchedules", "PreviewSchedule", "ListScheduleExecutions"),
            Action.EDIT: ("CreateSchedule", "UpdateSchedule", "Reschedule", "RunSchedule"),
            Action.APPROVE: ("ApproveSchedule",),
            # Who may approve one may stop it, too, and this is what they have in common with who may make one.
            Action.PROPOSE: ("CancelSchedule",),
        },
    ),
    **_methods(
        "flagstaff.v1.HistoryService",
        {
            Action.READ: ("ListRevisions", "GetRevision", "EvaluateAsOf", "DiffEvaluations"),
            Action.EDIT: ("Revert",),
        },
    ),
    **_methods(
        "flagstaff.v1.LaunchPlanService",
        {
            Action.READ: ("GetLaunchPlan", "ListLaunchPlans", "ExportLaunchCalendar"),
            Action.EDIT: (
                *("CreateLaunchPlan", "UpdateLaunchPlan", "StartLaunchPlan", "ResumeLaunchPlan"),
                *("ShiftLaunchPlan", "SkipLaunchItems", "CancelLaunchPlan"),
            ),
            # Whoever may switch flags off may stop what switches them.
            Action.KILL: ("HoldLaunchPlan",),
            Action.APPROVE: ("ApproveLaunchPlan",),
            # For those whom the check names.
            Action.PROPOSE: ("AnswerLaunchCheck",),
        },
    ),
    **_methods(
        "flagstaff.v1.ProjectService",
        {
            Action.ADMINISTER: ("CreateProject", "UpdateProject", "DeleteProject"),
            Action.READ: ("GetProject",),
            # What comes back is only what the caller may read.
            Action.IDENTIFY: ("ListProjects",),
        },
    ),
    **_methods(
        "flagstaff.v1.EnvironmentService",
        {
            Action.ADMINISTER: ("CreateEnvironment", "UpdateEnvironment", "CloneEnvironment", "DeleteEnvironment"),
            Action.READ: ("GetEnvironment", "ListEnvironments"),
        },
    ),
    **_methods(
        "flagstaff.v1.ReleaseService",
        {
            Action.READ: ("GetRelease", "ListReleases", "WatchRelease", "ListReleaseTemplates"),
            Action.EDIT: (
                *("CreateRelease", "UpdateRelease", "StartRelease", "ResumeRelease", "AdvanceRelease", "JumpRelease"),
                *("AnswerRelease", "RestartRelease", "CompleteRelease", "AbortRelease"),
                *("PutReleaseTemplate", "DeleteReleaseTemplate"),
            ),
            Action.APPROVE: ("ApproveRelease",),
            # Who may kill may stop a release and take it back; who may edit may kill.
            Action.KILL: ("PauseRelease", "HoldRelease", "RollBackRelease"),
        },
    ),
    **_methods(
        "flagstaff.v1.SegmentService",
        {
            Action.EDIT: (
                *("CreateSegment", "UpdateSegment", "DeleteSegment"),
                *("AddSegmentKeys", "RemoveSegmentKeys"),
            ),
            Action.READ: ("GetSegment", "ListSegments", "GetSegmentUsage", "ListSegmentKeys", "FindSegmentKeys"),
        },
    ),
    **_methods(
        "flagstaff.v1.MetricService",
        {
            Action.READ: ("GetMetric", "ListMetrics", "GetSums"),
            Action.EDIT: ("CreateMetric", "UpdateMetric", "DeleteMetric"),
            Action.RECORD: ("Record",),
        },
    ),
    **_methods("flagstaff.v1.SimulationService", {Action.READ: ("Simulate",)}),
    **_methods(
        "flagstaff.v1.RuleService",
        {
            Action.READ: ("GetRule", "ListRules", "ListRuleRuns", "TryRule"),
            Action.EDIT: ("CreateRule", "UpdateRule", "DeleteRule", "EnableRule", "DisableRule"),
            Action.IDENTIFY: ("ListRulePresets",),
        },
    ),
    **_methods(
        "flagstaff.v1.StalenessService",
        {
            Action.READ: ("GetStaleness", "ListStaleFlags", "GetStalenessPolicy"),
            Action.EDIT: ("SnoozeStale", "MarkStale", "ClearStale", "MarkPermanent", "UpdateStalenessPolicy"),
        },
    ),
    **_methods(
        "flagstaff.v1.TriggerService",
        {
            Action.READ: ("GetTrigger", "ListTriggers"),
            Action.EDIT: (
                *("CreateTrigger", "RotateTrigger", "EnableTrigger", "DisableTrigger"),
                "DeleteTrigger",
            ),
        },
    ),
    **_methods(
        "flagstaff.v1.TokenService",
        {
            Action.ADMINISTER: ("CreateToken", "GetToken", "ListTokens", "RevokeToken", "RotateToken"),
            Action.IDENTIFY: ("WhoAmI",),
        },
    ),
}
"""Path -> what it does. tests/rpc/test_methods.py holds it against the services' descriptors."""


def action_of(path: str) -> Action:
    """What a method does. Errors: KeyError for one that nobody thought about; it must not be served."""
    return ACTIONS[path]
