// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/awskms"
	"github.com/hyperiondb/hyperion-vault/proxy"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// nodeConfig is the settings as the node works with them.
type nodeConfig struct {
	proxyListen   []endpoint
	apiListen     endpoint
	metricsListen *endpoint // nil: off

	local      endpoint
	hosts      []endpoint
	user       string
	password   string
	database   string
	poolMax    int
	sslMode    string         // empty: by kind of address
	sslRoots   string         // a path
	roots      *x509.CertPool // what is there: certificates that may sign a server's; nil: the system's
	allowTrust bool

	routing     proxy.Routing
	primaryWait time.Duration
	moveBack    time.Duration
	park        time.Duration

	maxStaleness time.Duration
	rotationPoll time.Duration // 0: this node rotates nothing

	masterKey     []byte // of the local KMS; zeroed when that has derived its keys
	kmsKeyID      string // of the AWS KMS
	decryptKeyIDs []string
	cacheTTL      time.Duration
	cacheEntries  int
	kmsRetries    int
	kmsInflight   int
	allowUnlocked bool

	vaultID string // empty: as pinned

	auditDir  string
	spool     audit.Options
	ship      vault.ShipMode
	retention time.Duration // of vault.audit_log; 0: for ever

	allowedIPs, proxyIPs *vault.AllowList
	readAuth             vault.ReadAuth
	auditLogins          vault.LoginAudit
	apiHosts             []string
	trustProxy           *vault.AllowList
	bootstrap            []byte // SHA-256 of the token; nil: none
	weakBootstrap        bool
	openIndirect         proxy.OpenIndirect
	ignoreHBA, addHost   bool

	certificate *tls.Certificate
	requireTLS  proxy.RequireTLS

	limits         proxy.Limits
	maxMisses      int
	maxConnections int // of REST
	missWindow     time.Duration
	lockout        time.Duration
	drain          time.Duration
	logFormat      string
	logLevel       slog.Level
	level          *slog.LevelVar // what the log uses; SIGHUP changes it
}

// check turns the texts into a nodeConfig. The error joins one line per fault.
func (v values) check() (*nodeConfig, error) {
	p := newReader(v)
	c := &nodeConfig{}
	p.addresses(c)
	p.servers(c)
	p.keys(c)
	p.audit(c)
	p.access(c)
	p.limits(c)
	p.plaintext(c)
	return c, errors.Join(p.errs...)
}

const (
	defaultProxyPort = 6432
	unnamedPort      = 0 // each address must name its port
)

func (p *reader) addresses(c *nodeConfig) {
	c.proxyListen = p.endpoints("VAULT_PROXY_LISTEN", unnamedPort)
	port := socketPort(c.proxyListen, defaultProxyPort)
	for i, e := range c.proxyListen {
		c.proxyListen[i] = e.withSocketPort(port)
	}
	c.apiListen = p.tcpEndpoint("VAULT_API_LISTEN")
	if p.values["VAULT_METRICS_LISTEN"] != "off" {
		e := p.tcpEndpoint("VAULT_METRICS_LISTEN")
		c.metricsListen = &e
	}
}

// tcpEndpoint is for HTTP, which we serve on no socket.
func (p *reader) tcpEndpoint(name string) endpoint {
	e := p.endpoint(name, unnamedPort)
	if e.network == "unix" {
		p.wrong(name)
	}
	return e
}

func (p *reader) servers(c *nodeConfig) {
	port := p.number("VAULT_PG_PORT", 1, 65535)
	c.local = p.endpoint("VAULT_LOCAL_PG", unnamedPort).withSocketPort(port)
	for _, e := range p.endpoints("VAULT_PG_HOSTS", port) {
		c.hosts = append(c.hosts, e.withSocketPort(port))
	}
	c.user = p.filled("VAULT_PG_USER")
	c.database = p.filled("VAULT_PG_DBNAME")
	c.password = p.values["VAULT_PG_PASSWORD"]
	c.poolMax = p.number("VAULT_PG_POOL_MAX", 1, 1000)
	if p.values["VAULT_PG_SSLMODE"] != "" {
		c.sslMode = p.oneOf("VAULT_PG_SSLMODE", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
	}
	c.sslRoots, c.roots = p.values["VAULT_PG_SSLROOTCERT"], p.serverRoots()
	c.allowTrust = p.boolean("VAULT_PG_ALLOW_TRUST")
	switch p.oneOf("VAULT_ROUTE_WRITES", "all", "vault", "off") {
	case "vault":
		c.routing = proxy.RouteVault
	case "off":
		c.routing = proxy.RouteOff
	default:
		c.routing = proxy.RouteAll
	}
	c.primaryWait = p.duration("VAULT_PRIMARY_WAIT", 5*time.Minute)
	c.moveBack = p.duration("VAULT_MOVE_BACK_AFTER", 24*time.Hour)
	c.park = p.seconds("VAULT_PARK_SECS", 0, 86400)
	c.maxStaleness = p.duration("VAULT_MAX_STALENESS", 24*time.Hour)
	if c.maxStaleness > 0 && c.maxStaleness < time.Second { // the primary is asked a few times within it
		p.wrong("VAULT_MAX_STALENESS")
	}
}

func (p *reader) serverRoots() *x509.CertPool {
	path := p.values["VAULT_PG_SSLROOTCERT"]
	if path == "" {
		return nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		p.errs = append(p.errs, faultf("VAULT_PG_SSLROOTCERT holds %q: %s", path, cause(err)))
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		p.errs = append(p.errs, faultf("VAULT_PG_SSLROOTCERT holds %q: no PEM certificate is in it", path))
	}
	return roots
}

func (p *reader) keys(c *nodeConfig) {
	switch p.oneOf("VAULT_KMS_MODE", "aws", "local") {
	case "aws":
		p.awsKeys(c)
	case "local":
		if !p.boolean("VAULT_ALLOW_LOCAL_KMS") {
			p.errs = append(p.errs, faultf("VAULT_KMS_MODE holds \"local\": then the key to every secret lies on this host; "+
				"to start all the same, set VAULT_ALLOW_LOCAL_KMS=true"))
		}
		for _, name := range []string{"VAULT_KMS_KEY_ID", "VAULT_KMS_DECRYPT_KEY_IDS"} {
			if p.values[name] != "" { // else its records would be told to be tampered with
				p.errs = append(p.errs, faultf("%s is set, but VAULT_KMS_MODE holds \"local\": a node knows the keys of one of the two", name))
			}
		}
		c.masterKey = p.masterKey("VAULT_LOCAL_MASTER_KEY")
	}
	c.cacheTTL = p.seconds("VAULT_DEK_CACHE_TTL_SECS", 0, 86400)
	c.cacheEntries = p.number("VAULT_DEK_CACHE_ENTRIES", 1, 1_000_000)
	c.kmsRetries = p.number("VAULT_KMS_MAX_RETRIES", 0, 20)
	c.kmsInflight = p.number("VAULT_KMS_MAX_INFLIGHT", 1, 1000)
	c.allowUnlocked = p.boolean("VAULT_ALLOW_UNLOCKED")
	if id := p.values["VAULT_ID"]; id != "" {
		if _, err := envelope.ParseUUID(id); err != nil {
			p.wrong("VAULT_ID")
		}
		c.vaultID = id
	}
}

func (p *reader) audit(c *nodeConfig) {
	c.auditDir = p.filled("VAULT_AUDIT_DIR")
	if p.oneOf("VAULT_AUDIT_SYNC", "batch", "always") == "always" {
		c.spool.Sync = audit.SyncAlways
	}
	c.spool.Keep = p.durationFrom("VAULT_AUDIT_KEEP", time.Second, 10*365*24*time.Hour)
	c.spool.LowSpace = uint64(p.number("VAULT_AUDIT_LOW_SPACE", 1, 1<<40)) //nolint:gosec // not negative
	switch p.oneOf("VAULT_AUDIT_SHIP", "all", "writes", "off") {
	case "writes":
		c.ship = vault.ShipWrites
	case "off":
		c.ship = vault.ShipOff
	default:
		c.ship = vault.ShipAll
	}
	c.retention = p.duration("VAULT_AUDIT_RETENTION", 100*365*24*time.Hour)
	if c.retention > 0 && c.retention < time.Hour {
		p.wrong("VAULT_AUDIT_RETENTION")
	}
}

// awsKeys reads the keys of the AWS KMS.
func (p *reader) awsKeys(c *nodeConfig) {
	if p.values["VAULT_KMS_MODE"] != "aws" {
		return // anything else was told already
	}
	key := func(name, id string) string {
		if _, err := awskms.ParseKeyID(id); err != nil {
			p.wrong(name)
		}
		return id
	}
	c.kmsKeyID = key("VAULT_KMS_KEY_ID", p.values["VAULT_KMS_KEY_ID"])
	for id := range strings.SplitSeq(p.values["VAULT_KMS_DECRYPT_KEY_IDS"], ",") {
		if id = strings.TrimSpace(id); id != "" {
			c.decryptKeyIDs = append(c.decryptKeyIDs, key("VAULT_KMS_DECRYPT_KEY_IDS", id))
		}
	}
}

func (p *reader) access(c *nodeConfig) {
	c.allowedIPs = p.allowList("VAULT_ALLOWED_IPS")
	c.proxyIPs = c.allowedIPs
	if _, ok := p.values["VAULT_PROXY_ALLOWED_IPS"]; ok {
		c.proxyIPs = p.allowList("VAULT_PROXY_ALLOWED_IPS")
	}
	switch p.oneOf("VAULT_READ_AUTH", "ip", "token", "both") {
	case "token":
		c.readAuth = vault.ReadByToken
	case "both":
		c.readAuth = vault.ReadByBoth
	default:
		c.readAuth = vault.ReadByAddress
	}
	for name := range strings.SplitSeq(p.values["VAULT_API_HOSTS"], ",") {
		if name = strings.TrimSpace(name); strings.ContainsAny(name, ":/ ") {
			p.wrong("VAULT_API_HOSTS")
		} else if name != "" {
			c.apiHosts = append(c.apiHosts, name)
		}
	}
	if p.values["VAULT_TRUST_PROXY"] != "false" { // the original's word for nobody
		c.trustProxy = p.allowList("VAULT_TRUST_PROXY")
	}
	p.bootstrapToken(c)
	c.ignoreHBA = p.oneOf("VAULT_PROXY_HBA", "server", "off") == "off"
	c.addHost = p.boolean("VAULT_APPNAME_ADD_HOST")
	switch p.oneOf("VAULT_AUDIT_LOGINS", "off", "failed", "all") {
	case "failed":
		c.auditLogins = vault.LoginsFailed
	case "all":
		c.auditLogins = vault.LoginsAll
	default:
		c.auditLogins = vault.LoginsOff
	}
	switch p.oneOf("VAULT_OPEN_INDIRECT", "users", "on", "off") {
	case "on":
		c.openIndirect = proxy.IndirectOn
	case "off":
		c.openIndirect = proxy.IndirectOff
	default:
		c.openIndirect = proxy.IndirectUsers
	}
	switch p.oneOf("VAULT_REQUIRE_TLS", "secrets", "all", "off") {
	case "all":
		c.requireTLS = proxy.TLSForAll
	case "off":
		c.requireTLS = proxy.TLSOff
	default:
		c.requireTLS = proxy.TLSForSecrets
	}
	c.certificate = p.certificate()
}

// guessable is what a token is shorter than that somebody may have thought up.
const guessable = 20

// bootstrapToken keeps of the token what the database is to know.
func (p *reader) bootstrapToken(c *nodeConfig) {
	token := p.values["VAULT_BOOTSTRAP_TOKEN"]
	if token == "" {
		return
	}
	visible := func(r rune) bool { return r > ' ' && r <= '~' }
	if len(token) > 512 || strings.TrimFunc(token, visible) != "" {
		p.wrong("VAULT_BOOTSTRAP_TOKEN")
		return
	}
	sum := sha256.Sum256([]byte(token))
	c.bootstrap, c.weakBootstrap = sum[:], len(token) < guessable
}

func (p *reader) allowList(name string) *vault.AllowList {
	list, err := vault.ParseAllowList(p.values[name])
	if err != nil {
		p.wrong(name)
	}
	return list
}

// certificate loads the pair, so that a wrong file stops the start.
func (p *reader) certificate() *tls.Certificate {
	cert, key := p.values["VAULT_TLS_CERT"], p.values["VAULT_TLS_KEY"]
	switch {
	case cert == "" && key == "":
		return nil
	case cert == "":
		p.errs = append(p.errs, faultf("VAULT_TLS_KEY is set without VAULT_TLS_CERT: it should be both or neither"))
		return nil
	case key == "":
		p.errs = append(p.errs, faultf("VAULT_TLS_CERT is set without VAULT_TLS_KEY: it should be both or neither"))
		return nil
	}
	if err := secretMode(key); err != nil {
		p.errs = append(p.errs, faultf("VAULT_TLS_KEY holds %q: %s", key, err))
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		p.errs = append(p.errs, faultf("VAULT_TLS_CERT holds %q, VAULT_TLS_KEY %q: they should be a PEM certificate and its key (%s)", cert, key, cause(err)))
		return nil
	}
	return &pair
}

func (p *reader) limits(c *nodeConfig) {
	c.limits = proxy.Limits{
		MaxSessions:       p.number("VAULT_MAX_SESSIONS", 0, 100_000),
		MaxUserSessions:   p.number("VAULT_MAX_USER_SESSIONS", 0, 100_000),
		MaxPending:        p.number("VAULT_MAX_PENDING", 10, 100_000),
		MaxAddressPending: p.number("VAULT_MAX_ADDRESS_PENDING", 10, 100_000),
		Handshake:         p.seconds("VAULT_HANDSHAKE_SECS", 1, 600),
		MaxStartup:        p.number("VAULT_MAX_STARTUP_BYTES", 512, 10_000),
		FailedLogins:      p.number("VAULT_FAILED_LOGINS_PER_SEC", 1, 1000),
		CancelMisses:      p.number("VAULT_CANCEL_MISSES_PER_SEC", 1, 1000),
		Idle:              p.seconds("VAULT_IDLE_SECS", 0, 30*24*3600),
		MaxQuery:          p.number("VAULT_MAX_QUERY_BYTES", 64<<10, 1<<30),
		MaxHeld:           p.number("VAULT_MAX_HELD_BYTES", 1<<20, 1<<40),
		KeepAlive:         p.seconds("VAULT_TCP_KEEPALIVE_SECS", 1, 32767),
		UserTimeout:       p.seconds("VAULT_TCP_USER_TIMEOUT_SECS", 0, 86400),
	}
	c.maxConnections = p.number("VAULT_API_MAX_CONNECTIONS", 10, 100_000)
	c.maxMisses = p.number("VAULT_AUTH_MAX_FAILURES", 1, 10_000)
	c.missWindow = p.seconds("VAULT_AUTH_WINDOW_SECS", 1, 86400)
	c.lockout = p.seconds("VAULT_AUTH_LOCKOUT_SECS", 0, 86400)
	c.rotationPoll = p.seconds("VAULT_ROTATION_POLL_SECS", 0, 3600)
	c.drain = p.seconds("VAULT_DRAIN_SECS", 0, 3600)
	c.logFormat = p.oneOf("VAULT_LOG_FORMAT", "json", "text")
	c.logLevel = p.level("VAULT_LOG_LEVEL")
}

// plaintext refuses to carry values in clear over a network by mistake.
func (p *reader) plaintext(c *nodeConfig) {
	if p.boolean("VAULT_ALLOW_PLAINTEXT") || p.values["VAULT_TLS_CERT"] != "" {
		return
	}
	listeners := map[string][]endpoint{"VAULT_PROXY_LISTEN": c.proxyListen, "VAULT_API_LISTEN": {c.apiListen}}
	if c.metricsListen != nil {
		listeners["VAULT_METRICS_LISTEN"] = []endpoint{*c.metricsListen}
	}
	for _, name := range []string{"VAULT_PROXY_LISTEN", "VAULT_API_LISTEN", "VAULT_METRICS_LISTEN"} {
		for _, e := range listeners[name] {
			if e.network != "" && e.beyondLoopback() {
				p.errs = append(p.errs, faultf("%s holds %q: that can be reached from other hosts, and there is no certificate; "+
					"set VAULT_TLS_CERT and VAULT_TLS_KEY, or listen on 127.0.0.1, or set VAULT_ALLOW_PLAINTEXT=true", name, strings.TrimSpace(p.values[name])))
				break
			}
		}
	}
}
