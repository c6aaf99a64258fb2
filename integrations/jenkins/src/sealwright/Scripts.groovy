package sealwright

import com.cloudbees.groovy.cps.NonCPS

/**
 * What agents run to fetch the artifact: curl, which goes on where it broke off, then the digest.
 *
 * They read SEALWRIGHT_ADDRESS, SEALWRIGHT_OUTPUT, SEALWRIGHT_SHA256, SEALWRIGHT_SIZE and
 * SEALWRIGHT_API_TOKEN, and end with 0 (there), 75 (to be repeated), 4 (refused) or 5 (other bytes).
 * The token goes into curl by standard input: arguments are seen by every process of the machine.
 */
class Scripts implements Serializable {
    private static final long serialVersionUID = 1L

    static final int AGAIN = 75

    /** For sh. */
    @NonCPS
    static String posix() {
        return '''\
            set -eu +x
            part=$SEALWRIGHT_OUTPUT.sealwright-part
            case $SEALWRIGHT_OUTPUT in */*) mkdir -p "${SEALWRIGHT_OUTPUT%/*}" ;; esac
            have=$(if [ -e "$part" ]; then wc -c <"$part"; else echo 0; fi)
            if [ "$((have))" -lt "$SEALWRIGHT_SIZE" ] || [ "$SEALWRIGHT_SIZE" = 0 ]; then
              failure=0
              status=$(printf 'header = "Authorization: Bearer %s"\\n' "$SEALWRIGHT_API_TOKEN" |
                curl --config - --silent --show-error --globoff --fail --connect-timeout 30 --speed-limit 1 \\
                  --speed-time 100 --max-filesize "$SEALWRIGHT_SIZE" --continue-at - --output "$part" \\
                  --user-agent sealwright-jenkins --write-out '%{http_code}' "$SEALWRIGHT_ADDRESS") || failure=$?
              case $failure:$status in
                0:*) ;;
                *:416 | 33:* | 36:*) rm -f "$part"; exit 75 ;;
                *:408 | *:429 | *:502 | *:503 | *:504) exit 75 ;;
                22:* | 1:* | 2:* | 3:* | 23:* | 35:* | 60:* | 63:* | 77:*) exit 4 ;;
                *) exit 75 ;;
              esac
            fi
            if command -v sha256sum >/dev/null; then actual=$(sha256sum <"$part")
            elif command -v shasum >/dev/null; then actual=$(shasum -a 256 <"$part")
            else actual=$(openssl dgst -sha256 -r <"$part"); fi
            if [ "${actual%% *}" != "$SEALWRIGHT_SHA256" ]; then rm -f "$part"; exit 5; fi
            mv "$part" "$SEALWRIGHT_OUTPUT"
            '''.stripIndent()
    }

    /** For powershell, 5.1 or newer, with the curl.exe of Windows. */
    @NonCPS
    static String windows() {
        return '''\
            $ErrorActionPreference = 'Continue'
            $part = "$env:SEALWRIGHT_OUTPUT.sealwright-part"
            $folder = Split-Path -Parent $env:SEALWRIGHT_OUTPUT
            if ($folder) { New-Item -ItemType Directory -Force -Path $folder | Out-Null }
            $have = if (Test-Path -LiteralPath $part) { (Get-Item -LiteralPath $part).Length } else { 0 }
            if ($have -lt [long]$env:SEALWRIGHT_SIZE -or [long]$env:SEALWRIGHT_SIZE -eq 0) {
              $status = "header = `"Authorization: Bearer $env:SEALWRIGHT_API_TOKEN`"" |
                curl.exe --config - --silent --show-error --globoff --fail --connect-timeout 30 --speed-limit 1 `
                  --speed-time 100 --max-filesize $env:SEALWRIGHT_SIZE --continue-at - --output $part `
                  --user-agent sealwright-jenkins --write-out '%{http_code}' $env:SEALWRIGHT_ADDRESS
              $failure = $LASTEXITCODE
              if ($failure -ne 0) {
                if ($status -eq '416' -or $failure -in 33, 36) { Remove-Item -Force -LiteralPath $part -ErrorAction SilentlyContinue; exit 75 }
                if ($status -in '408', '429', '502', '503', '504') { exit 75 }
                if ($failure -in 1, 2, 3, 22, 23, 35, 60, 63, 77) { exit 4 }
                exit 75
              }
            }
            $actual = (Get-FileHash -Algorithm SHA256 -LiteralPath $part).Hash.ToLowerInvariant()
            if ($actual -ne $env:SEALWRIGHT_SHA256) { Remove-Item -Force -LiteralPath $part; exit 5 }
            Move-Item -Force -LiteralPath $part -Destination $env:SEALWRIGHT_OUTPUT
            exit 0
            '''.stripIndent()
    }
}
