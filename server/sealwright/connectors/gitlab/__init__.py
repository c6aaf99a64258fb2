"""GitLab: facts in, reports out."""

from sealwright.connectors.gitlab.client import GitLabError
from sealwright.connectors.gitlab.connector import GitLabConnector, JobIdentity
from sealwright.connectors.gitlab.webhooks import (
    GitLabEvent,
    JobEvent,
    MergeRequestEvent,
    PipelineEvent,
    TagPushEvent,
    parse_event,
)

__all__ = [
    "GitLabConnector",
    "GitLabError",
    "GitLabEvent",
    "JobEvent",
    "JobIdentity",
    "MergeRequestEvent",
    "PipelineEvent",
    "TagPushEvent",
    "parse_event",
]
