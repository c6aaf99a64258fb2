"""Advice that the same failure in many files calls for: what the reader can do next."""

from __future__ import annotations

SIGN_ANEW = (
    "The signature is damaged, or made against its rules: take the file from its publisher again, "
    "or have it signed anew."
)
CHANGED = (
    "It was changed after it was signed: take it from its publisher again, or have it signed anew."
)
UNSIGNED = "Have it signed by its publisher first."
WEAK = (
    "Have it signed anew, with a key and a hash that are strong enough: RSA from 2048 bits, SHA-2."
)
MAKE_ANEW = "Check that the build has written it whole, or have the build make it anew."
MAKE_SMALLER = "Have the build make it smaller, or leave it out of the artifact configuration."
MAKE_UNSIGNED = "Take the file from before it was signed, and sign that."
DAMAGED_ENCODING = (
    "A signature, certificate or time stamp in it is damaged: take the file from its publisher "
    "again, or have it signed anew."
)
CERTIFICATE = "Take the certificate, or the file that carries it, from whoever issued it again."
DIRECTIVE = "Use a directive that the documentation of artifact configurations has for the element."
STAMP_ANEW = "Have the file signed and stamped anew, by an authority that keeps to RFC 3161."
ADDED_AFTERWARDS = "Have the whole archive signed anew: files were added after it was signed."
FEWER_ISSUERS = "Sign with a certificate that has fewer issuers."
SHORTEN_NAMES = "Shorten the names of files and outputs."
OTHER_OUTPUT = "Choose another output-file-name."
OTHER_KEY = "Check that certificate and key on the token belong together."
REPORT = "The result is not released. Report this as a defect, with the signing request."
VALID_SIGNER = "Have it signed with a valid code-signing certificate, and a time stamp."
RAISE_LIMIT = "Have the server's limit raised if this is meant."
SUBMIT_APART = (
    "This looks like an archive bomb; if it is not, submit its files as several artifacts."
)
