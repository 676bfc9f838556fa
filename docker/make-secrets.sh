#!/bin/sh
# Draws the secrets that compose.yaml names, each into a file of its own; what is there stays.
#   docker/make-secrets.sh [FOLDER]     by default the folder secrets beside this script
# Compose hands a file over as it is on the host, and the containers are not root. So each file can
# be read by all (0444), and only its owner can enter the folder (0700).
set -eu
umask 077

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"
drawn=0
kept=0

keep() { # the secret $1 with the value $2, unless there is one; whole, or not at all
    if [ -e "$folder/$1" ]; then
        kept=$((kept + 1))
        return
    fi
    printf '%s' "$2" >"$folder/.$1.new"
    chmod 0444 "$folder/.$1.new"
    mv "$folder/.$1.new" "$folder/$1"
    drawn=$((drawn + 1))
}

random() { # $1 bytes as hexadecimal digits, which need no quoting in a URL
    digits=$(od -An -v -N"$1" -tx1 /dev/urandom | tr -d ' \n')
    if [ ${#digits} -ne $(($1 * 2)) ]; then
        echo "make-secrets: /dev/urandom gave '$digits', not $1 bytes; nothing more was drawn" >&2
        exit 74
    fi
    printf '%s' "$digits"
}

for name in postgres_password prefect_db_password label_studio_db_password ledger_password \
    valkey_password label_studio_password label_studio_secret_key webhook_secret server_token \
    s3_secret_key s3_signing_key; do
    value=$(random 24)
    keep "$name" "$value"
done
value=$(random 20) # Label Studio takes 40 characters and no others
keep label_studio_token "$value"
value=$(random 10)
keep s3_access_key "$value"
value=$(random 24)
keep prefect_auth "flywheel:$value" # name and password of Prefect's dashboard
keep notify_url ''                  # yours: where failures are reported; empty: nowhere
echo "$folder: $drawn drawn, $kept kept"
