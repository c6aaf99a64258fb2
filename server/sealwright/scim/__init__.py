"""SCIM 2.0 (RFC 7643, RFC 7644): a directory provisions users and groups of one organization.

What a request says becomes conditions, orders and changes here; `directory` carries them out, for
single requests and for those of a bulk alike. Nothing here knows HTTP.
"""
