#!/bin/sh
# Has Sealwright sign a job's artifact. Needs a POSIX shell, curl, awk and sha256sum (or shasum, or openssl).
# What to do stands in SEALWRIGHT_* variables, see README.md. Ends with 0 (done), 1 (refused or failed),
# 2 (wrong settings), 3 (out of time).
set -eu
LC_ALL=C
export LC_ALL

poll_seconds=30
progress_seconds=10 # while files are signed: their progress does not end a long poll
work=$(umask 077 && mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 143' HUP INT TERM

main() {
  check_settings
  write_request
  submit
  announce
  follow
  write_results
  if [ "$SEALWRIGHT_WAIT" = true ]; then check_end; fi
  if [ "$state" = Completed ] && [ -n "$SEALWRIGHT_OUTPUT_DIRECTORY" ]; then deliver; fi
}

# ---- settings

check_settings() {
  for name in URL ORGANIZATION_ID PROJECT SIGNING_POLICY; do
    eval "value=\${SEALWRIGHT_$name:-}"
    [ -n "$value" ] || wrong "SEALWRIGHT_$name is empty." "Give the input of that name."
  done
  [ -n "${CI_PIPELINE_ID:-}" ] || wrong "CI_PIPELINE_ID is not set." "Run this as a job of GitLab CI."
  : "${SEALWRIGHT_BUILD_SYSTEM:=gitlab}" "${SEALWRIGHT_ARTIFACT_CONFIGURATION:=}" "${SEALWRIGHT_PATH:=}"
  : "${SEALWRIGHT_JOB_TO_SIGN:=}" "${SEALWRIGHT_DESCRIPTION:=}" "${SEALWRIGHT_PARAMETERS:=}"
  : "${SEALWRIGHT_TOKEN:=}" "${SEALWRIGHT_ID_TOKEN:=}" "${SEALWRIGHT_WAIT:=true}" "${SEALWRIGHT_TIMEOUT:=3600}"
  : "${SEALWRIGHT_SERVICE_UNAVAILABLE_TIMEOUT:=600}" "${SEALWRIGHT_OUTPUT_DIRECTORY:=}"
  : "${SEALWRIGHT_DECOMPRESS:=auto}" "${SEALWRIGHT_DOTENV:=sealwright.env}"
  url=${SEALWRIGHT_URL%/}
  origin=$(printf %s "$url" | sed 's#^\([a-z]*://[^/]*\).*#\1#')
  case $origin in
    https://*) protocols='=https' ;;
    # plain HTTP would show the token to everyone on the way
    http://localhost | http://localhost:* | http://127.*) protocols='=http' ;;
    *) wrong "SEALWRIGHT_URL is $SEALWRIGHT_URL." "Use https://HOST of the Sealwright server." ;;
  esac
  case $url in *[!A-Za-z0-9:/._~%-]*) wrong "SEALWRIGHT_URL holds more than an address." "Leave out user and query." ;; esac
  for value in "$SEALWRIGHT_ORGANIZATION_ID" "$SEALWRIGHT_BUILD_SYSTEM"; do
    case $value in *[!A-Za-z0-9._-]*) wrong "$value is no id and no slug." "Use it as the server shows it." ;; esac
  done
  for value in "$SEALWRIGHT_TIMEOUT" "$SEALWRIGHT_SERVICE_UNAVAILABLE_TIMEOUT"; do
    case $value in *[!0-9]* | '') wrong "$value is no number of seconds." "Use a whole number." ;; esac
  done
  check_artifact
  check_credentials
}

check_artifact() {
  if [ -n "$SEALWRIGHT_PATH" ]; then
    [ -z "$SEALWRIGHT_JOB_TO_SIGN" ] || wrong "Both path and artifact-job-id are given." "Give one of them."
    [ -f "$SEALWRIGHT_PATH" ] || wrong "There is no file $SEALWRIGHT_PATH." \
      "Name one file; it must be an artifact of an earlier job."
  else
    : "${SEALWRIGHT_JOB_TO_SIGN:=${SEALWRIGHT_ARTIFACT_JOB_ID:-}}"
    case $SEALWRIGHT_JOB_TO_SIGN in
      '') wrong "Neither path nor artifact-job-id is given." \
        "Let the building job write SEALWRIGHT_ARTIFACT_JOB_ID=\$CI_JOB_ID into a dotenv report." ;;
      *[!0-9]*) wrong "The artifact-job-id is $SEALWRIGHT_JOB_TO_SIGN." "Use the number in CI_JOB_ID." ;;
    esac
  fi
  case $SEALWRIGHT_DECOMPRESS in
    auto) if [ -n "$SEALWRIGHT_PATH" ]; then SEALWRIGHT_DECOMPRESS=false; else SEALWRIGHT_DECOMPRESS=true; fi ;;
    true | false) ;;
    *) wrong "decompress is $SEALWRIGHT_DECOMPRESS." "Use true, false or auto." ;;
  esac
  case $SEALWRIGHT_WAIT in true | false) ;; *) wrong "wait is $SEALWRIGHT_WAIT." "Use true or false." ;; esac
}

# Tokens go into files that curl reads: arguments are seen by every process of the machine.
check_credentials() {
  case $SEALWRIGHT_TOKEN$SEALWRIGHT_ID_TOKEN in
    '') wrong "There is nothing to prove this job with." \
      "Give the job id_tokens: SEALWRIGHT_ID_TOKEN, or the variable SEALWRIGHT_TOKEN." ;;
    *[!A-Za-z0-9._~+/=-]*) wrong "A token holds blanks or line breaks." "Store the bare token." ;;
  esac
  printf 'header = "Authorization: Bearer %s"\n' "${SEALWRIGHT_TOKEN:-$SEALWRIGHT_ID_TOKEN}" >"$work/credentials"
  if [ -n "$SEALWRIGHT_TOKEN" ] && [ -n "$SEALWRIGHT_ID_TOKEN" ]; then
    printf 'header = "X-Sealwright-Identity-Token: %s"\n' "$SEALWRIGHT_ID_TOKEN" >>"$work/credentials"
  fi
}

# ---- the request

write_request() {
  {
    printf '{"project":%s,"signing_policy":%s' "$(json "$SEALWRIGHT_PROJECT")" "$(json "$SEALWRIGHT_SIGNING_POLICY")"
    optional artifact_configuration "$SEALWRIGHT_ARTIFACT_CONFIGURATION"
    optional description "$SEALWRIGHT_DESCRIPTION"
    optional repository "${CI_PROJECT_PATH:-}"
    optional artifact_id "$SEALWRIGHT_JOB_TO_SIGN"
    printf ',"parameters":{'
    write_parameters
    printf '},"run_id":%s,"run_attempt":0}' "$(json "$CI_PIPELINE_ID")"
  } >"$work/request.json"
}

optional() {
  [ -z "$2" ] || printf ',"%s":%s' "$1" "$(json "$2")"
}

write_parameters() {
  separator=
  printf '%s\n' "$SEALWRIGHT_PARAMETERS" | while IFS= read -r line; do
    line=$(printf %s "$line" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
    case $line in '' | '#'*) continue ;; esac
    name=$(printf %s "${line%%:*}" | sed 's/[[:space:]]*$//')
    case $line in *:*) ;; *) name= ;; esac
    case $name in
      '' | *[!A-Za-z0-9._-]*)
        wrong "The parameter line \"$line\" is not \"name: value\"." "Write one pair a line."
        ;;
    esac
    printf '%s%s:%s' "$separator" "$(json "$name")" "$(json "$(printf %s "${line#*:}" | sed 's/^[[:space:]]*//')")"
    separator=,
  done
}

# A JSON string (RFC 8259, 7).
json() {
  VALUE=$1 awk 'BEGIN {
    value = ENVIRON["VALUE"]; out = ""
    for (i = 1; i <= length(value); i++) {
      c = substr(value, i, 1)
      if (c == "\\" || c == "\"") c = "\\" c
      else if (c == "\n") c = "\\n"
      else if (c == "\t") c = "\\t"
      else if (c < " ") c = " "
      out = out c
    }
    printf "\"%s\"", out
  }'
}

submit() {
  target=$url/api/v1/organizations/$SEALWRIGHT_ORGANIZATION_ID/ci/$SEALWRIGHT_BUILD_SYSTEM/signing-requests
  if [ -n "$SEALWRIGHT_PATH" ]; then
    quoted=$(printf %s "$SEALWRIGHT_PATH" | sed 's/[\\"]/\\&/g')
    patiently call credentials "$target" --form "request=<$work/request.json;type=application/json" \
      --form "artifact=@\"$quoted\";type=application/octet-stream"
  else
    patiently call credentials "$target" --header 'Content-Type: application/json' --data-binary "@$work/request.json"
  fi
  id=$(field id) web_url=$(field web_url) status_url=$(field status_url)
  signed_artifact_url=$(field signed_artifact_url) access_token=$(field access_token) state=$(field state)
  for value in "$id" "$status_url" "$signed_artifact_url" "$access_token"; do
    [ -n "$value" ] || fail "The server's answer is not the one of its API." "Check that $url is a Sealwright server."
  done
  for value in "$status_url" "$signed_artifact_url"; do
    case $value in
      *[!A-Za-z0-9:/._~%?=\&-]*) fail "The server names a strange address." "Check that $url is a Sealwright server." ;;
      "$origin"/*) ;;
      *) fail "The server names an address elsewhere." "Give the address by which it knows itself as url; url is $url." ;;
    esac
  done
  case $access_token in *[!A-Za-z0-9._~+/=-]*) fail "The server's access token is malformed." "" ;; esac
  printf 'header = "Authorization: Bearer %s"\n' "$access_token" >"$work/access"
}

announce() {
  echo "Signing request $id: $web_url"
  labels=$(awk -F '\t' '$1 ~ /^labels\.[0-9]+$/ { printf "%s%s", s, $2; s = "; " }' "$work/fields")
  [ -z "$labels" ] || echo "Origin: $labels"
}

# ---- its end

follow() {
  begun=$(date +%s) told='' wait=0 known='' pause=2 renewed=false
  deadline=$begun
  if [ "$SEALWRIGHT_WAIT" = true ]; then deadline=$((begun + SEALWRIGHT_TIMEOUT)); fi
  while :; do
    asked=$(date +%s)
    case $status_url in *\?*) separator='&' ;; *) separator='?' ;; esac
    if ! patiently look "$status_url${separator}wait=$wait${known:+&known=$known}"; then
      # the access token has run out; submitting the same again gives another one
      [ "$renewed" = false ] || refused
      submit
      renewed=true
      continue
    fi
    renewed=false state=$(field state) final=$(field is_final)
    if [ -z "$state" ] || [ -z "$final" ]; then
      fail "The server's answer has no state." "Check that $url is a Sealwright server."
    fi
    now=$(date +%s)
    line=$(describe)
    if [ "$line" != "$told" ]; then echo "$line (after $((now - begun)) s)"; fi
    told=$line
    if [ "$final" = true ] || [ "$now" -ge "$deadline" ]; then return; fi
    left=$((deadline - now))
    news=true version=$(field version)
    case $version in *[!A-Za-z0-9-]*) version='' ;; esac
    [ "$version" != "$known" ] || news=false
    known=$version
    # an answer at once without news means that the server does not hold the call: do not hurry it
    if [ "$wait" -gt 0 ] && [ "$news" = false ] && [ "$now" -le $((asked + 1)) ]; then
      sleep "$(least "$pause" "$left")"
      pause=$(least $((pause * 2)) 10)
    fi
    wait=$poll_seconds
    if [ "$state" = Processing ]; then wait=$progress_seconds; fi
    wait=$(least "$wait" "$left")
  done
}

look() {
  call access "$1" || return
  [ "$status" != 401 ] || return 1
}

describe() {
  files=$(field progress.files)
  case $state:$files in
    Processing: | Processing:0 | Processing:*[!0-9]*) ;;
    Processing:*)
      echo "$state: $(field progress.stage), $(field progress.done) of $files files"
      return
      ;;
  esac
  if [ "$state" != WaitingForApproval ]; then
    echo "$state"
    return
  fi
  approved=$(awk -F '\t' '$1 ~ /^approvals\.[0-9]+\.verdict$/ && $2 == "approve"' "$work/fields" | wc -l)
  echo "$state: $((approved)) of $(field quorum) approvals"
}

least() {
  if [ "$1" -lt "$2" ]; then echo "$1"; else echo "$2"; fi
}

write_results() {
  {
    echo "SEALWRIGHT_REQUEST_ID=$id"
    echo "SEALWRIGHT_REQUEST_URL=$web_url"
    echo "SEALWRIGHT_STATE=$state"
  } >"$SEALWRIGHT_DOTENV"
}

check_end() {
  [ "$state" != Completed ] || return 0
  if [ "$final" = true ]; then
    reason=$(field reason)
    fail "The signing request is $state${reason:+: $reason}" "$(field advice)"
  fi
  tell "The signing request is still $state after $SEALWRIGHT_TIMEOUT s." \
    "It goes on at $web_url. Raise timeout, or set wait: false and fetch it later."
  exit 3
}

# ---- the signed artifact

deliver() {
  sha256=$(field output.sha256) size=$(field output.size) name=$(field output.file_name)
  case ${#sha256}:$sha256:$size in
    64:*[!0-9a-f]*:* | *:*:*[!0-9]* | *:) fail "The server describes no artifact that can be checked." "Open $web_url." ;;
    64:*) ;;
    *) fail "The server describes no artifact that can be checked." "Open $web_url." ;;
  esac
  case $name in '' | .* | -* | */* | *\\*) name=signed-artifact ;; esac
  mkdir -p "$SEALWRIGHT_OUTPUT_DIRECTORY"
  part=$SEALWRIGHT_OUTPUT_DIRECTORY/.sealwright-part
  rm -rf "$part"
  if ! patiently download; then
    # the access token has run out while the request was followed
    submit
    patiently download || fail "The server answers $status." "Open $web_url."
  fi
  actual=$(digest "$part")
  if [ "$actual" != "$sha256" ]; then
    rm -f "$part"
    fail "The download's SHA-256 is $actual, not $sha256 as the server says." "Run the job again."
  fi
  if [ "$SEALWRIGHT_DECOMPRESS" = true ]; then unpack; else mv "$part" "$SEALWRIGHT_OUTPUT_DIRECTORY/$name"; fi
  echo "Signed: $SEALWRIGHT_OUTPUT_DIRECTORY ($size bytes, SHA-256 $sha256)"
}

# Goes on where it broke off. With --fail no answer but the artifact is ever written to the file.
download() {
  have=$(if [ -e "$part" ]; then wc -c <"$part"; else echo 0; fi)
  if [ "$((have))" -ge "$size" ] && [ "$size" -gt 0 ]; then return; fi
  transfer access "$signed_artifact_url" "$part" --fail --continue-at - --max-filesize "$size" || case $? in
    # no ranges, or more bytes here than there: begin anew
    33 | 36 | 22) if [ "$status" = 416 ] || [ "$status" = 200 ]; then rm -f "$part"; status=000; fi ;;
  esac
  judge
  [ ! -e "$work/again" ] || return 0
  [ "$status" != 401 ] || return 1
  have=$(if [ -e "$part" ]; then wc -c <"$part"; else echo 0; fi)
  if [ "$((have))" -lt "$size" ]; then away "The download broke off."; fi
}

digest() {
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1"
  elif command -v shasum >/dev/null; then
    shasum -a 256 <"$1"
  else
    openssl dgst -sha256 -r <"$1"
  fi | cut -d ' ' -f 1
}

# Into an empty folder first: so that no member can use a link that another one made.
unpack() {
  command -v unzip >/dev/null || fail "There is no unzip in this image." "Use another image, or decompress: false."
  staging=$SEALWRIGHT_OUTPUT_DIRECTORY/.sealwright-staging
  rm -rf "$staging"
  mkdir "$staging"
  unzip -q -o "$part" -d "$staging" >&2 || fail "The signed artifact cannot be unpacked." "Set decompress: false where it is not a ZIP."
  if [ -n "$(find "$staging" ! -type f ! -type d)" ]; then
    rm -rf "$staging" "$part"
    fail "The signed artifact holds links; it is not unpacked." "Set decompress: false."
  fi
  cp -R "$staging/." "$SEALWRIGHT_OUTPUT_DIRECTORY/"
  rm -rf "$staging" "$part"
}

# ---- HTTP

# Repeats a call while the server is away. The call sets $status, and writes $work/again to be repeated.
patiently() {
  patience_ends=$(($(date +%s) + SEALWRIGHT_SERVICE_UNAVAILABLE_TIMEOUT))
  retry_pause=1
  while :; do
    rm -f "$work/again"
    result=0
    "$@" || result=$?
    [ -e "$work/again" ] || return "$result"
    remaining=$((patience_ends - $(date +%s)))
    if [ "$remaining" -le 0 ]; then
      tell "$(cat "$work/again")" "Check that the server runs and that this runner reaches it; raise service-unavailable-timeout."
      exit 3
    fi
    echo "$(cat "$work/again") Trying again for $remaining s." >&2
    sleep "$(least "${retry_after:-$retry_pause}" "$remaining")"
    retry_pause=$(least $((retry_pause * 2)) 30)
  done
}

# JSON from an address into $work/fields: call CREDENTIALS URL [curl options]
call() {
  credentials=$1 address=$2
  shift 2
  rm -f "$work/answer"
  transfer "$credentials" "$address" "$work/answer" --max-filesize 16777216 --header 'Accept: application/json' "$@" || :
  judge
  [ ! -e "$work/again" ] || return 0
  : >>"$work/answer"
  flatten <"$work/answer" >"$work/fields"
  case $status in 2??) ;; 401) [ "$credentials" = access ] || refused ;; *) refused ;; esac
}

# transfer CREDENTIALS URL FILE [curl options]; sets $status, $curl_status and $retry_after
transfer() {
  with=$1 address=$2 into=$3
  shift 3
  : >"$work/headers"
  curl_status=0
  status=$(curl --silent --show-error --globoff --proto "$protocols" --config "$work/$with" \
    --connect-timeout 30 --speed-limit 1 --speed-time 100 --dump-header "$work/headers" --output "$into" \
    --user-agent sealwright-gitlab --write-out '%{http_code}' "$@" "$address" 2>"$work/curl-error") || curl_status=$?
  retry_after=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,5\}\)[[:space:]]*$/\1/p' "$work/headers" | tail -n 1)
  return "$curl_status"
}

# What a transfer's outcome means: done, again, or the end.
judge() {
  case $status in
    408 | 429 | 502 | 503 | 504) away "The server answers $status." ;;
    3??) fail "The server redirects ($status)." "Give the address that it redirects to as url." ;;
    *)
      case $curl_status in
        0 | 22) ;;
        # nothing that waiting would mend: wrong address, certificate, file
        1 | 2 | 3 | 23 | 26 | 27 | 35 | 51 | 53 | 58 | 59 | 60 | 63 | 77) fail "$(plain "$work/curl-error")" "Check the address, the certificate and the file." ;;
        *) away "$(plain "$work/curl-error")" ;;
      esac
      if [ "$curl_status" = 22 ] && [ "$status" != 401 ] && [ "$status" != 000 ]; then
        fail "The server answers $status." "Open $web_url."
      fi
      ;;
  esac
}

away() {
  echo "$1" >"$work/again"
}

# ---- JSON in

# JSON as lines of path, tab, value: "output.sha256<TAB>..." ; strings without control characters.
# Split at quotation marks, so that it takes time in proportion to the length.
flatten() {
  awk '
    function path(  i, p) {
      p = ""
      for (i = 1; i <= depth; i++) p = p (i > 1 ? "." : "") (kind[i] == "o" ? key[i] : at[i])
      return p
    }
    function emit(value) { if (depth > 0) printf "%s\t%s\n", path(), substr(value, 1, 2000) }
    function flush() { if (literal != "") emit(literal); literal = "" }
    function hex(digits,  i, n) {
      n = 0
      for (i = 1; i <= 4; i++) n = n * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
      return n
    }
    function decoded(s,  i, c, n, out) {
      out = ""
      while (i = index(s, "\\")) {
        out = out substr(s, 1, i - 1)
        c = substr(s, i + 1, 1)
        if (c == "u") {
          n = hex(substr(s, i + 2, 4))
          out = out (n >= 32 && n < 127 ? sprintf("%c", n) : "?")
          s = substr(s, i + 6)
          continue
        }
        out = out (index("nrtbf", c) ? " " : c)
        s = substr(s, i + 2)
      }
      out = out s
      gsub(/[\001-\037\177]/, " ", out)
      gsub(/\302[\200-\237]/, " ", out)
      return out
    }
    function structure(chunk,  i, c) {
      for (i = 1; i <= length(chunk); i++) {
        c = substr(chunk, i, 1)
        if (c == "{" || c == "[") {
          if (++depth > 50) exit 1
          kind[depth] = c == "{" ? "o" : "a"; at[depth] = 0; key[depth] = ""; named[depth] = 0
        }
        else if (c == "}" || c == "]") { flush(); depth-- }
        else if (c == ",") { flush(); at[depth]++; named[depth] = 0 }
        else if (c == ":") named[depth] = 1
        else if (c !~ /[[:space:]]/) literal = literal c
      }
    }
    BEGIN { RS = "\""; depth = 0; inside = 0; literal = "" }
    !inside { structure($0); inside = 1; text = ""; next }
    {
      text = text $0
      backslashes = match($0, /\\+$/) ? RLENGTH : 0
      if (backslashes % 2) { text = text "\""; next }
      inside = 0
      value = decoded(text)
      if (kind[depth] == "o" && !named[depth]) { gsub(/[^A-Za-z0-9_-]/, "_", value); key[depth] = value }
      else emit(value)
    }
  '
}

# The value at a path of the last answer; empty where there is none, or null.
field() {
  NAME=$1 awk -F '\t' '$1 == ENVIRON["NAME"] { value = $2 } END { if (value != "null") print value }' "$work/fields"
}

# ---- failures

refused() {
  number=0
  while error=$(field "errors.$number.error") && [ -n "$error" ] && [ $number -lt 20 ]; do
    tell "$error" "$(field "errors.$number.how_to_fix")"
    number=$((number + 1))
  done
  if [ $number = 0 ]; then
    detail=$(field detail)
    tell "${detail:-The server answers $status.}" "$(field advice)"
  fi
  exit 1
}

plain() {
  tr -d '\001-\011\013-\037\177' <"$1" | head -n 3
}

tell() {
  printf 'Sealwright: %s\n' "$1" >&2
  [ -z "$2" ] || printf '  How to fix: %s\n' "$2" >&2
}

fail() {
  tell "$@"
  exit 1
}

wrong() {
  tell "$@"
  exit 2
}

main </dev/null
