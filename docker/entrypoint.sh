#!/bin/sh
# Hands secrets over to a program that reads only its environment: {secret:NAME} in the value of a
# variable becomes what the file /run/secrets/NAME holds. Then the command takes this one's place.
# The values stand in no image, no compose file and no `docker inspect`.
set -eu

folder=${SECRETS_FOLDER:-/run/secrets}

content() { # of the secret $1, for the variable $2
    case $1 in
    '' | *[!a-z0-9_]*)
        echo "entrypoint: $2 names the secret '$1'; write lower case letters, digits and _" >&2
        return 78
        ;;
    esac
    cat "$folder/$1" 2>/dev/null || {
        echo "entrypoint: $2 needs the secret $1, and $folder/$1 cannot be read;" \
            "list it under secrets: of the service, and draw it with docker/make-secrets.sh" >&2
        return 78
    }
}

filled() { # the value $1 of the variable $2 with its secrets
    rest=$1
    done=
    while :; do
        case $rest in
        *'{secret:'*'}'*) ;;
        *) break ;;
        esac
        after=${rest#*'{secret:'}
        secret=$(content "${after%%'}'*}" "$2") || return
        done=$done${rest%%'{secret:'*}$secret
        rest=${after#*'}'}
    done
    printf '%s' "$done$rest"
}

if [ $# -eq 0 ]; then
    echo "entrypoint: no command; write one behind it, such as: flywheel status /project" >&2
    exit 64
fi
for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*{secret:.*/\1/p'); do
    eval "value=\$$name"
    value=$(filled "$value" "$name") || exit
    export "$name=$value"
done
unset value
exec "$@"
