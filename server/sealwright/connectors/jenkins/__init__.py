"""Jenkins: facts in, reports out."""

from sealwright.connectors.jenkins.client import JenkinsError
from sealwright.connectors.jenkins.connector import JenkinsConnector
from sealwright.connectors.jenkins.webhooks import BuildEvent, parse_event

__all__ = ["BuildEvent", "JenkinsConnector", "JenkinsError", "parse_event"]
