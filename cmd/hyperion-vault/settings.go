// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"reflect"
	"strings"
)

// settings is everything that a node can be told, as text; nil: not said by
// flag or environment. docs/CONFIG.md is made from its tags: `env` is the name
// (also in a --config file), `preset` the default, `form` what a value looks
// like. A secret has no flag.
type settings struct {
	ProxyListen   *string `env:"VAULT_PROXY_LISTEN" preset:"0.0.0.0:6432" form:"addresses host:port or socket directories, with commas between" help:"Where clients connect as to PostgreSQL."`
	APIListen     *string `env:"VAULT_API_LISTEN" preset:"0.0.0.0:8200" form:"an address host:port" help:"Where REST is served, and /healthz, /readyz, /primary and /replica."`
	MetricsListen *string `env:"VAULT_METRICS_LISTEN" preset:"127.0.0.1:9632" form:"an address host:port, or off" help:"Where Prometheus fetches /metrics."`

	LocalPG       *string `env:"VAULT_LOCAL_PG" preset:"127.0.0.1:5432" form:"an address host:port or a socket directory" help:"The PostgreSQL server beside this node. A socket directory takes its port from VAULT_PG_PORT."`
	PGHosts       *string `env:"VAULT_PG_HOSTS" preset:"127.0.0.1" form:"host, host:port, [v6]:port or a socket directory, with commas between" help:"All servers of the cluster; the primary is found among them."`
	PGPort        *string `env:"VAULT_PG_PORT" preset:"5432" form:"a port number from 1 to 65535" help:"Port of the VAULT_PG_HOSTS that name none."`
	PGUser        *string `env:"VAULT_PG_USER" preset:"vault_service" form:"the name of a role" help:"The service role, made by init."`
	PGPassword    *string `kong:"-" env:"VAULT_PG_PASSWORD" secret:"true" form:"a password" help:"The service role's password."`
	PGPassFile    *string `env:"VAULT_PG_PASSWORD_FILE" form:"a path; others may not read the file, a group only if root owns it" help:"File that holds VAULT_PG_PASSWORD."`
	PGDatabase    *string `env:"VAULT_PG_DBNAME" preset:"postgres" form:"the name of a database" help:"The database that has the vault."`
	PGPoolMax     *string `env:"VAULT_PG_POOL_MAX" preset:"16" form:"a number from 1 to 1000" help:"Most connections of the service role to the local server; REST may open half as many more, there and at the primary (a token may write by half of these), the node itself four there."`
	PGSSLMode     *string `env:"VAULT_PG_SSLMODE" form:"disable, allow, prefer, require, verify-ca or verify-full" help:"TLS to the servers, in libpq's words. Default: prefer to a server on loopback or a socket, verify-full to any other."`
	PGSSLRootCert *string `env:"VAULT_PG_SSLROOTCERT" form:"a path" help:"Certificates that may sign a server's. Default: the system's."`
	RouteWrites   *string `env:"VAULT_ROUTE_WRITES" preset:"all" form:"all, vault or off" help:"What a session beside a standby goes to the primary for: every write, and every block that is not read-only; the vault's own writes outside blocks; nothing. Until it goes back, all that it sends runs there."`
	PrimaryWait   *string `env:"VAULT_PRIMARY_WAIT" preset:"2s" form:"a time from 0s to 5m" help:"How long a write waits at a standby while no server is the primary."`
	MoveBackAfter *string `env:"VAULT_MOVE_BACK_AFTER" preset:"1s" form:"a time from 0s to 24h" help:"After how long without a write a session goes from the primary back to the standby beside its node, if that shows all that the session may have seen; 0s: never."`
	ParkSecs      *string `env:"VAULT_PARK_SECS" preset:"60" form:"seconds from 0 to 86400" help:"How long the connection that a session has left for the other server is kept; at the primary it holds what currval() and lastval() return. 0: not at all."`
	MaxStaleness  *string `env:"VAULT_MAX_STALENESS" preset:"0s" form:"0s, or a time from 1s to 24h" help:"How old what a standby shows may be for its node to open secrets of it: the time since the primary had no more than that. 0s: no bound."`
	PGAllowTrust  *string `env:"VAULT_PG_ALLOW_TRUST" preset:"false" form:"true or false" help:"Accept a server that lets a role in without a password (a trust line in pg_hba.conf); beyond this host only with VAULT_PG_SSLMODE=verify-full."`

	KMSMode        *string `env:"VAULT_KMS_MODE" preset:"aws" form:"aws or local" help:"Who keeps the master key: the AWS KMS, found as the AWS SDK does it (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL_KMS …, or the host's role), or this node."`
	KMSKeyID       *string `env:"VAULT_KMS_KEY_ID" form:"the ARN of a KMS key, as aws kms describe-key prints it; no alias" help:"Key of the AWS KMS that wraps new data keys. It is asked in the key's own region."`
	KMSDecryptIDs  *string `env:"VAULT_KMS_DECRYPT_KEY_IDS" form:"ARNs of KMS keys, with commas between" help:"Further keys whose secrets are opened: those that were in use before."`
	MasterKey      *string `kong:"-" env:"VAULT_LOCAL_MASTER_KEY" secret:"true" form:"32 bytes in base64" help:"Master key of the local mode."`
	MasterKeyFile  *string `env:"VAULT_LOCAL_MASTER_KEY_FILE" form:"a path; others may not read the file, a group only if root owns it" help:"File that holds VAULT_LOCAL_MASTER_KEY."`
	AllowLocalKMS  *string `env:"VAULT_ALLOW_LOCAL_KMS" preset:"false" form:"true or false" help:"Let serve start with the local mode: whoever has the key has every secret, and it lies on this host."`
	CacheTTL       *string `env:"VAULT_DEK_CACHE_TTL_SECS" preset:"300" form:"seconds from 0 to 86400" help:"How long a data key is used after the KMS gave it; 0: not kept."`
	CacheEntries   *string `env:"VAULT_DEK_CACHE_ENTRIES" preset:"16384" form:"a number from 1 to 1000000" help:"Most data keys kept, in locked memory: fewer if the limit of locked memory allows no more."`
	KMSRetries     *string `env:"VAULT_KMS_MAX_RETRIES" preset:"5" form:"a number from 0 to 20" help:"How often a call of the KMS is repeated after a fault that may pass."`
	KMSInflight    *string `env:"VAULT_KMS_MAX_INFLIGHT" preset:"64" form:"a number from 1 to 1000" help:"Most calls of the KMS at one time."`
	AllowUnlocked  *string `env:"VAULT_ALLOW_UNLOCKED" preset:"false" form:"true or false" help:"Start even if no memory can be locked against swapping."`
	VaultID        *string `env:"VAULT_ID" form:"a UUID" help:"The vault that this node serves. Default: the one it met at its first start, written in VAULT_AUDIT_DIR."`
	AuditDir       *string `env:"VAULT_AUDIT_DIR" preset:"/var/lib/hyperion-vault" form:"a path" help:"This node's own directory."`
	AuditSync      *string `env:"VAULT_AUDIT_SYNC" preset:"batch" form:"batch or always" help:"When an audit record is on the disk: written before what it stands for is shown and synced at most 50 ms and the time of three syncs later, which only the end of the machine can tell from the other; or synced before."`
	AuditKeep      *string `env:"VAULT_AUDIT_KEEP" preset:"168h" form:"a time from 1s to 87600h" help:"How long the node keeps audit records that the vault has."`
	AuditShip      *string `env:"VAULT_AUDIT_SHIP" preset:"all" form:"all, writes or off" help:"Which audit records go to vault.audit_log: all; all, but without what was read, verified and listed (the chain stays whole; audit verify is told by --ship-writes NODE); none, and the node deletes none."`
	AuditRetention *string `env:"VAULT_AUDIT_RETENTION" preset:"0s" form:"0s, or a time from 1h to 876000h" help:"After how long records are deleted from vault.audit_log, not before hyperion_vault.audit_min_age of the server; 0s: never."`
	AuditLowSpace  *string `env:"VAULT_AUDIT_LOW_SPACE" preset:"268435456" form:"bytes from 1 to 1099511627776" help:"With less space left for the audit in VAULT_AUDIT_DIR /readyz says degraded. Without any no secret is opened."`
	AuditLogins    *string `env:"VAULT_AUDIT_LOGINS" preset:"off" form:"off, failed or all" help:"Which log-ins are recorded in the audit: by SQL through the node those that are refused, or all; by REST, unless off, tokens that nobody has, what is no token, and proxies that name no client. An address that is locked for them is recorded in any case."`
	AllowedIPs     *string `env:"VAULT_ALLOWED_IPS" form:"addresses, CIDRs, loopback, samehost, with commas between" help:"From where secrets may be read and verified. Empty: from nowhere."`
	ProxyIPs       *string `env:"VAULT_PROXY_ALLOWED_IPS" form:"addresses, CIDRs, loopback, samehost, with commas between" help:"The same for SQL alone. Default: VAULT_ALLOWED_IPS."`
	ReadAuth       *string `env:"VAULT_READ_AUTH" preset:"ip" form:"ip, token or both" help:"What REST asks of who reads and verifies: an address in VAULT_ALLOWED_IPS (a token, if one is sent, decides what; without one the role ip does), a token from any address, or both."`
	APIHosts       *string `env:"VAULT_API_HOSTS" form:"host names, with commas between" help:"Names by which REST may be called, beside addresses and localhost: a name that somebody else points at the node is none of them."`
	TrustProxy     *string `env:"VAULT_TRUST_PROXY" form:"addresses, CIDRs, loopback, samehost, with commas between, or false" help:"Proxies in front of REST whose X-Forwarded-For is believed: the last address in it that is none of them is the client's. One that sends none is refused. Empty, or false: none."`
	BootstrapToken *string `kong:"-" env:"VAULT_BOOTSTRAP_TOKEN" secret:"true" form:"1 to 512 visible ASCII characters" help:"A token that becomes an administrator's, named bootstrap, if there never was a token; the same on all nodes. Unset it when there are others."`
	BootstrapFile  *string `env:"VAULT_BOOTSTRAP_TOKEN_FILE" form:"a path; others may not read the file, a group only if root owns it" help:"File that holds VAULT_BOOTSTRAP_TOKEN."`
	ProxyHBA       *string `env:"VAULT_PROXY_HBA" preset:"server" form:"server or off" help:"Whose pg_hba.conf is applied to a client's own address, database, role and TLS: the local server's, or nobody's."`
	AppnameAddHost *string `env:"VAULT_APPNAME_ADD_HOST" preset:"false" form:"true or false" help:"Add the client's address and port to the application_name with which it connects."`
	OpenIndirect   *string `env:"VAULT_OPEN_INDIRECT" preset:"users" form:"on, users or off" help:"Whether a sealed value is opened that comes out of a view, function or trigger: for everybody, for all but superusers and BYPASSRLS roles, for nobody."`
	TLSCert        *string `env:"VAULT_TLS_CERT" form:"a path" help:"Certificate of this node, PEM, with its chain."`
	TLSKey         *string `env:"VAULT_TLS_KEY" form:"a path; others may not read the file, a group only if root owns it" help:"Key of VAULT_TLS_CERT."`
	RequireTLS     *string `env:"VAULT_REQUIRE_TLS" preset:"secrets" form:"all, secrets or off" help:"What a client in clear may do if there is a certificate: nothing, all but secrets, everything. Loopback and socket clients are exempt."`
	AllowPlaintext *string `env:"VAULT_ALLOW_PLAINTEXT" preset:"false" form:"true or false" help:"Listen beyond loopback without a certificate."`

	MaxSessions       *string `env:"VAULT_MAX_SESSIONS" preset:"0" form:"a number from 0 to 100000" help:"Most sessions through this node; 0: as many as the server's max_connections leaves to clients."`
	MaxUserSessions   *string `env:"VAULT_MAX_USER_SESSIONS" preset:"0" form:"a number from 0 to 100000" help:"Most sessions of one role; 0: no bound beside the role's CONNECTION LIMIT."`
	MaxPending        *string `env:"VAULT_MAX_PENDING" preset:"1000" form:"a number from 10 to 100000" help:"Most connections that have not logged in yet. One more closes one that keeps the node waiting, at the address that has most."`
	MaxAddressPending *string `env:"VAULT_MAX_ADDRESS_PENDING" preset:"500" form:"a number from 10 to 100000" help:"The same for one client address (of IPv6: one /64 network)."`
	APIMaxConns       *string `env:"VAULT_API_MAX_CONNECTIONS" preset:"1000" form:"a number from 10 to 100000" help:"Most requests that REST serves at one time, and connections to it, of which 32 more may be open. One more closes one that keeps the node waiting, at the address that has most."`
	HandshakeSecs     *string `env:"VAULT_HANDSHAKE_SECS" preset:"60" form:"seconds from 1 to 600" help:"How long a client may take to log in, TLS included."`
	MaxStartupBytes   *string `env:"VAULT_MAX_STARTUP_BYTES" preset:"10000" form:"bytes from 512 to 10000" help:"Largest first packet of a client. Before log-in no other message may be larger than 1,024 bytes."`
	FailedLogins      *string `env:"VAULT_FAILED_LOGINS_PER_SEC" preset:"50" form:"a number from 1 to 1000" help:"Log-ins that may fail from one address, ten seconds' worth of them at once; beyond that its log-ins wait, then are refused."`
	CancelMisses      *string `env:"VAULT_CANCEL_MISSES_PER_SEC" preset:"10" form:"a number from 1 to 1000" help:"Cancel requests with a wrong key that one address may send, ten seconds' worth of them at once; beyond that none with a short key is heard."`
	AuthMaxFailures   *string `env:"VAULT_AUTH_MAX_FAILURES" preset:"5" form:"a number from 1 to 10000" help:"Wrong values that a role, or by REST an address, may verify against one secret within VAULT_AUTH_WINDOW_SECS, and unknown tokens that an address (of IPv6: a /64 network) may send."`
	AuthWindowSecs    *string `env:"VAULT_AUTH_WINDOW_SECS" preset:"300" form:"seconds from 1 to 86400" help:"Time in which VAULT_AUTH_MAX_FAILURES fill up again."`
	AuthLockoutSecs   *string `env:"VAULT_AUTH_LOCKOUT_SECS" preset:"900" form:"seconds from 0 to 86400" help:"How long an address is locked that has sent VAULT_AUTH_MAX_FAILURES unknown tokens, by all nodes; valid tokens, and reads without one, are let in all the same. 0: none is locked."`
	RotationPollSecs  *string `env:"VAULT_ROTATION_POLL_SECS" preset:"15" form:"seconds from 0 to 3600" help:"How often the node looks for rotations that are due, although the primary tells when some were queued; 0: this node rotates nothing."`
	IdleSecs          *string `env:"VAULT_IDLE_SECS" preset:"0" form:"seconds from 0 to 2592000" help:"How long a session may be idle outside a transaction; 0: for ever. Replication connections are exempt."`
	MaxQueryBytes     *string `env:"VAULT_MAX_QUERY_BYTES" preset:"67108864" form:"bytes from 65536 to 1073741824" help:"Largest SQL text, or set of bound values, that the node holds to look for vault calls."`
	MaxHeldBytes      *string `env:"VAULT_MAX_HELD_BYTES" preset:"536870912" form:"bytes from 1048576 to 1099511627776" help:"Most memory that unfinished messages of all sessions may take together."`
	KeepAliveSecs     *string `env:"VAULT_TCP_KEEPALIVE_SECS" preset:"60" form:"seconds from 1 to 32767" help:"How long a client or the server may be silent before TCP asks whether it lives; it is given up a minute later."`
	UserTimeoutSecs   *string `env:"VAULT_TCP_USER_TIMEOUT_SECS" preset:"0" form:"seconds from 0 to 86400" help:"How long sent data may stay unacknowledged; 0: as the system does it, some 15 minutes. It also ends a peer that lives but has not read for so long."`
	DrainSecs         *string `env:"VAULT_DRAIN_SECS" preset:"20" form:"seconds from 0 to 3600" help:"How long sessions may finish their transactions, and requests be answered, at shutdown."`
	LogFormat         *string `env:"VAULT_LOG_FORMAT" preset:"json" form:"json or text" help:"Form of the log on stderr."`
	LogLevel          *string `env:"VAULT_LOG_LEVEL" preset:"info" form:"debug, info, warn or error" help:"Least level that is logged."`
}

// A setting is one field of settings.
type setting struct {
	name, flag, preset, form, help string
	secret                         bool
	index                          int
}

// settingList reads the tags, in the order of the struct.
func settingList() []setting {
	t := reflect.TypeFor[settings]()
	list := make([]setting, 0, t.NumField())
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		s := setting{
			name: tag.Get("env"), preset: tag.Get("preset"), form: tag.Get("form"), help: tag.Get("help"),
			secret: tag.Get("secret") == "true", index: i,
		}
		if !s.secret {
			s.flag = "--" + flagName(s.name)
		}
		list = append(list, s)
	}
	return list
}

// flagName of VAULT_PG_PORT is pg-port.
func flagName(variable string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, "VAULT_"), "_", "-"))
}
