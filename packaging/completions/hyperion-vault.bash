# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by go test ./cmd/hyperion-vault -run '^TestCompletions$' -update

_hyperion_vault() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' offer='' word
	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case "${command:+$command }$word" in
		'serve' | 'dev' | 'init' | 'token' | 'token create' | 'token list' | 'token revoke' | 'get' | 'put' | 'ls' | 'status' | 'flush' | 'audit' | 'audit verify' | 'audit export' | 'audit tail' | 'prove' | 'version') command=${command:+$command }$word ;;
		esac
	done
	case $command in
	'')
		case $prev in
		*) offer='serve dev init token get put ls status flush audit prove version --help' ;;
		esac
		;;
	'serve')
		case $prev in
		--pg-sslmode) offer='disable allow prefer require verify-ca verify-full' ;;
		--route-writes) offer='all vault off' ;;
		--pg-allow-trust) offer='true false' ;;
		--kms-mode) offer='aws local' ;;
		--allow-local-kms) offer='true false' ;;
		--allow-unlocked) offer='true false' ;;
		--audit-sync) offer='batch always' ;;
		--audit-ship) offer='all writes off' ;;
		--audit-logins) offer='off failed all' ;;
		--read-auth) offer='ip token both' ;;
		--proxy-hba) offer='server off' ;;
		--appname-add-host) offer='true false' ;;
		--open-indirect) offer='on users off' ;;
		--require-tls) offer='all secrets off' ;;
		--allow-plaintext) offer='true false' ;;
		--log-format) offer='json text' ;;
		--log-level) offer='debug info warn error' ;;
		--config | --pg-password-file | --pg-sslrootcert | --local-master-key-file | --audit-dir | --bootstrap-token-file | --tls-cert | --tls-key) compopt -o default; return ;;
		--proxy-listen | --api-listen | --metrics-listen | --local-pg | --pg-hosts | --pg-port | --pg-user | --pg-dbname | --pg-pool-max | --primary-wait | --move-back-after | --park-secs | --max-staleness | --kms-key-id | --kms-decrypt-key-ids | --dek-cache-ttl-secs | --dek-cache-entries | --kms-max-retries | --kms-max-inflight | --id | --audit-keep | --audit-retention | --audit-low-space | --allowed-ips | --proxy-allowed-ips | --api-hosts | --trust-proxy | --max-sessions | --max-user-sessions | --max-pending | --max-address-pending | --api-max-connections | --handshake-secs | --max-startup-bytes | --failed-logins-per-sec | --cancel-misses-per-sec | --auth-max-failures | --auth-window-secs | --auth-lockout-secs | --rotation-poll-secs | --idle-secs | --max-query-bytes | --max-held-bytes | --tcp-keepalive-secs | --tcp-user-timeout-secs | --drain-secs) return ;;
		*) offer='--config --check --new-identity --proxy-listen --api-listen --metrics-listen --local-pg --pg-hosts --pg-port --pg-user --pg-password-file --pg-dbname --pg-pool-max --pg-sslmode --pg-sslrootcert --route-writes --primary-wait --move-back-after --park-secs --max-staleness --pg-allow-trust --kms-mode --kms-key-id --kms-decrypt-key-ids --local-master-key-file --allow-local-kms --dek-cache-ttl-secs --dek-cache-entries --kms-max-retries --kms-max-inflight --allow-unlocked --id --audit-dir --audit-sync --audit-keep --audit-ship --audit-retention --audit-low-space --audit-logins --allowed-ips --proxy-allowed-ips --read-auth --api-hosts --trust-proxy --bootstrap-token-file --proxy-hba --appname-add-host --open-indirect --tls-cert --tls-key --require-tls --allow-plaintext --max-sessions --max-user-sessions --max-pending --max-address-pending --api-max-connections --handshake-secs --max-startup-bytes --failed-logins-per-sec --cancel-misses-per-sec --auth-max-failures --auth-window-secs --auth-lockout-secs --rotation-poll-secs --idle-secs --max-query-bytes --max-held-bytes --tcp-keepalive-secs --tcp-user-timeout-secs --drain-secs --log-format --log-level' ;;
		esac
		;;
	'dev')
		case $prev in
		--dir | --sql) compopt -o default; return ;;
		--standbys | --listen | --kms-endpoint | --user | --database | --proxy-port | --api-port | --metrics-port | --server-port | --pg-setting) return ;;
		*) offer='--json --standbys --dir --sql --listen --kms-endpoint --user --database --proxy-port --api-port --metrics-port --server-port --pg-setting' ;;
		esac
		;;
	'init')
		case $prev in
		--service-password-file) compopt -o default; return ;;
		--hosts | --database | --service-role) return ;;
		*) offer='--hosts --database --service-role --service-password-file --reset-service-password --json' ;;
		esac
		;;
	'token')
		case $prev in
		*) offer='create list revoke' ;;
		esac
		;;
	'token create')
		case $prev in
		--cacert) compopt -o default; return ;;
		--addr | --role) return ;;
		*) offer='--addr --cacert --role' ;;
		esac
		;;
	'token list')
		case $prev in
		--cacert) compopt -o default; return ;;
		--addr) return ;;
		*) offer='--addr --cacert' ;;
		esac
		;;
	'token revoke')
		case $prev in
		--cacert) compopt -o default; return ;;
		--addr) return ;;
		*) offer='--addr --cacert' ;;
		esac
		;;
	'get')
		case $prev in
		--cacert) compopt -o default; return ;;
		--addr | --version) return ;;
		*) offer='--addr --cacert --version --raw' ;;
		esac
		;;
	'put')
		case $prev in
		--cacert) compopt -o default; return ;;
		--addr) return ;;
		*) offer='--addr --cacert' ;;
		esac
		;;
	'ls')
		case $prev in
		--cacert) compopt -o default; return ;;
		--addr) return ;;
		*) offer='--addr --cacert' ;;
		esac
		;;
	'status')
		case $prev in
		--config | --audit-dir) compopt -o default; return ;;
		*) offer='--config --audit-dir --sessions --json' ;;
		esac
		;;
	'flush')
		case $prev in
		--config | --audit-dir) compopt -o default; return ;;
		*) offer='--config --audit-dir' ;;
		esac
		;;
	'audit')
		case $prev in
		*) offer='verify export tail' ;;
		esac
		;;
	'audit verify')
		case $prev in
		--spool | --export | --trust | --heads) compopt -o default; return ;;
		--database | --min-age | --grace | --restored | --ship-writes) return ;;
		*) offer='--database --spool --export --trust --heads --part --of-spool --min-age --grace --restored --ship-writes --progress --json' ;;
		esac
		;;
	'audit export')
		case $prev in
		--spool) compopt -o default; return ;;
		--database | --since) return ;;
		*) offer='--database --spool --since --heads-only --progress' ;;
		esac
		;;
	'audit tail')
		case $prev in
		--spool) compopt -o default; return ;;
		--database | --lines) return ;;
		*) offer='--database --spool --follow --lines --json' ;;
		esac
		;;
	'prove')
		case $prev in
		--cacert | --data-dir | --audit-dir) compopt -o default; return ;;
		--addr | --login | --server | --log | --node-log | --require) return ;;
		*) offer='--addr --cacert --login --server --as-is --data-dir --log --node-log --audit-dir --base-backup --dump --changed --require --progress --json' ;;
		esac
		;;
	'version')
		case $prev in
		*) offer='' ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$cur")
}

complete -F _hyperion_vault hyperion-vault
