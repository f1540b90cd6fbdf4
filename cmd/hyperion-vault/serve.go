// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hyperiondb/hyperion-vault/api"
	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

type serveCommand struct {
	Config string `env:"VAULT_CONFIG" placeholder:"FILE" help:"Settings as lines NAME=value; flags and environment go before them."`
	Check  bool   `help:"Say for each part whether it would work and what to do, then end: exit code 1 if something would not. Nothing is changed; run it as the node's own user, who may open less than root."`

	NewIdentity bool `help:"Set the audit records of VAULT_AUDIT_DIR aside and begin a chain under a new node id and key: once, for a node that was cloned or restored from a copy."`

	Settings settings `embed:""`
}

// Run builds the node and keeps it until the context ends.
func (c *serveCommand) Run(ctx context.Context, std *streams) (err error) {
	if c.Check && c.NewIdentity {
		return faultf("--check changes nothing, and --new-identity does: name one")
	}
	v, warnings, err := load(&c.Settings, std.environ, c.Config)
	config, err := settle(v, warnings, err)
	if err != nil {
		return err
	}
	v.forget()
	log := newLog(std.err, config)
	for _, warning := range warnings {
		log.WarnContext(ctx, "setting", "warning", warning)
	}
	if err := envelope.LockProcess(); err != nil {
		return err
	}
	if !erase.Enabled() {
		log.WarnContext(ctx, "this build does not erase keys and values from memory after use: build it with GOEXPERIMENT=runtimesecret")
	}
	if !recording {
		log.WarnContext(ctx, notRecording)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR2) // before anybody sees that it listens: they would end it
	defer signal.Stop(signals)
	var l *listeners // nil: --check changes nothing
	var spool *audit.Spool
	if !c.Check {
		if l, err = config.listen(ctx); err != nil { // before a record says that it started
			return err
		}
		defer l.close()
		if spool, err = openSpool(ctx, config, c.NewIdentity, log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, spool.Close()) }()
	}
	n, err := newNode(ctx, config, spool, log)
	if err != nil {
		return err
	}
	defer n.vault.Close()
	if c.Check {
		return n.check(ctx, std.out)
	}
	n.reload = func() (values, []string, error) { return load(&c.Settings, std.environ, c.Config) }
	n.values = v
	n.processors = newProcessors(std.environ, runtime.GOMAXPROCS(0))
	n.manager = newNotifier(std.environ)
	return n.run(ctx, l, signals)
}

func newLog(w io.Writer, c *nodeConfig) *slog.Logger {
	c.level = new(slog.LevelVar)
	c.level.Set(c.logLevel)
	options := &slog.HandlerOptions{Level: c.level}
	if c.logFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// A node is one `serve` process: the core and its faces.
type node struct {
	config   *nodeConfig
	log      *slog.Logger
	name     string
	spool    *audit.Spool // nil: only checks
	pinned   bool         // to a vault, before a server was asked
	vault    *vault.Vault
	proxy    *proxy.Server
	rest     *api.Handler
	registry *prometheus.Registry

	certificate atomic.Pointer[tls.Certificate] // nil: none; SIGHUP replaces it
	roots       atomic.Pointer[x509.CertPool]   // nil: the system's; the same way
	kms         atomic.Pointer[kmsState]
	draining    atomic.Bool
	probe       serverProbe
	processors  *processors
	manager     notifier

	values values // as loaded last; owned by the signal loop after start
	reload func() (values, []string, error)
}

// newNode connects to nothing: only faults of this host are errors.
func newNode(ctx context.Context, c *nodeConfig, spool *audit.Spool, log *slog.Logger) (*node, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	n := &node{config: c, log: log, name: name, spool: spool, registry: prometheus.NewRegistry()}
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.certificate.Store(c.certificate)
	n.roots.Store(c.roots)
	n.kms.Store(&kmsState{err: errNotTried})

	newSealer, err := sealerMaker(ctx, c, newKMSMetrics(n.registry), log)
	if err != nil {
		return nil, err
	}
	pinned := vault.PinVaultID
	if spool == nil {
		pinned = vault.PeekVaultID
	}
	pin, err := pinned(c.auditDir, c.vaultID)
	if errors.Is(err, vault.ErrForeignVault) {
		return nil, faultf("%s", err)
	}
	if err != nil {
		return nil, auditDirFault(err)
	}
	_, n.pinned = pin.ID()
	hosts := make([]vault.Server, len(c.hosts))
	for i, e := range c.hosts {
		hosts[i] = vault.Server{Network: e.network, Addr: e.address}
	}
	var sink audit.Sink // nil: nothing is recorded
	if spool != nil {
		if recording {
			sink = spool
		}
		n.registry.MustRegister(n.spoolGauges()...)
	}
	n.vault, err = vault.New(vault.Config{ //nolint:contextcheck // it waits for nothing
		Node: name, Local: vault.Server{Network: c.local.network, Addr: c.local.address}, Hosts: hosts,
		User: c.user, Password: c.password, Database: c.database, PoolMax: c.poolMax,
		Socket:  func(nc net.Conn) net.Conn { return wire.NewSocket(nc) },
		SSLMode: c.sslMode, SSLRootCert: c.sslRoots, AllowTrust: c.allowTrust,
		Pin: pin, NewSealer: newSealer, AllowedIPs: c.proxyIPs,
		RESTAllowedIPs: c.allowedIPs, ReadAuth: c.readAuth, PrimaryWait: c.primaryWait, MaxMisses: c.maxMisses, MissWindow: c.missWindow, Lockout: c.lockout,
		MaxStaleness: c.maxStaleness, Audit: sink, Logins: c.auditLogins, Log: log, Registerer: n.registry,
	})
	if err != nil {
		return nil, err
	}
	if n.proxy, err = n.newProxy(); err != nil { //nolint:contextcheck // as above
		n.vault.Close()
		return nil, err
	}
	n.rest = api.New(api.Config{
		Vault: n.vault, Hosts: c.apiHosts, TrustProxy: c.trustProxy, Draining: n.draining.Load, MaxConnections: c.maxConnections, Log: log,
	})
	n.registry.MustRegister(n.partGauges()...)
	n.registry.MustRegister(n.nodeGauges()...)
	return n, nil
}

// planCacheBytes is room for some thousand different texts that call the vault.
const planCacheBytes = 16 << 20

func (n *node) newProxy() (*proxy.Server, error) {
	c := n.config
	p := proxy.Config{
		Vault: n.vault, Analyzer: rewrite.NewAnalyzer(rewrite.Config{CacheBytes: planCacheBytes, CheckName: envelope.CheckName}),
		Local: vault.Server{Network: c.local.network, Addr: c.local.address}, ServerTLS: n.serverTLS,
		RequireTLS: c.requireTLS, AllowTrust: c.allowTrust, OpenIndirect: c.openIndirect, Database: c.database,
		IgnoreHBA: c.ignoreHBA, AppnameAddHost: c.addHost,
		Routing: c.routing, PrimaryWait: c.primaryWait, MoveBack: c.moveBack, Park: c.park,
		Limits: c.limits, MockSecret: mockSecret(c.password),
		Log: n.log, Registerer: n.registry,
	}
	if c.certificate != nil {
		p.TLS = n.tlsConfig()
	}
	return proxy.New(p)
}

// mockSecret keys the salts that unknown roles are shown. It must be the same at
// each start and on all nodes, or comparing two answers tells which roles
// exist: so it comes from the one secret that every node of a cluster has, until
// that is set anew (docs/THREAT_MODEL.md).
func mockSecret(password string) []byte {
	if password == "" {
		return nil
	}
	mac := hmac.New(sha256.New, []byte(password))
	mac.Write([]byte("hyperion-vault/mock-salt/1"))
	return mac.Sum(nil)
}

// tlsConfig hands out the certificate that is valid when a client comes.
func (n *node) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return n.certificate.Load(), nil
		},
	}
}

// serverTLS says how sessions reach a server.
func (n *node) serverTLS(at vault.Server) *proxy.ServerTLS {
	t := &proxy.ServerTLS{Mode: proxy.SSLVerifyFull, Roots: n.roots.Load}
	switch mode, err := proxy.ParseSSLMode(n.config.sslMode); {
	case err == nil:
		t.Mode = mode
	case !(endpoint{network: at.Network, address: at.Addr}).beyondLoopback():
		t.Mode = proxy.SSLPrefer
	}
	t.Host, _, _ = net.SplitHostPort(at.Addr) // an address that was checked at the start
	return t
}

// run serves until ctx ends, then lets sessions finish.
func (n *node) run(ctx context.Context, listeners *listeners, signals <-chan os.Signal) error {
	if err := n.open(ctx, listeners); err != nil {
		return err
	}
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx)) // outlives the drain
	defer stopWork()
	b := &background{failed: make(chan error, 1)}
	for _, l := range listeners.proxy {
		b.run(func() error { return n.proxy.Serve(work, l) })
	}
	web := n.serveHTTP(work, listeners, b.run)
	claiming, stopClaiming := context.WithCancel(ctx)
	defer stopClaiming()
	rotated := n.rotate(work, claiming.Done(), b)
	finishShipping := n.ship(work, b)
	n.keep(work, b, signals)
	n.log.InfoContext(ctx, "serving", "version", version, "proxy", addresses(listeners.proxy), "api", listeners.api.Addr().String())
	n.manager.ready()

	var err error
	select {
	case <-ctx.Done():
		n.log.Info("draining", "seconds", int(n.config.drain/time.Second))
	case err = <-b.failed:
		n.log.Error("a listener failed", "error", err.Error())
	}
	n.draining.Store(true)
	n.manager.stopping(n.config.drain + stopMargin)
	stopClaiming()
	drain, endDrain := context.WithTimeout(work, n.config.drain)
	defer endDrain()
	if stopErr := n.proxy.Shutdown(drain); stopErr != nil {
		n.log.Warn("sessions were closed before they had finished")
	}
	drained, _ := drain.Deadline()
	web.close(work, drained)
	select {
	case <-rotated:
	case <-drain.Done(): // what is under way is done by another node
	}
	finishShipping()
	stopWork()
	b.wg.Wait()
	n.log.Info("ended")
	return err
}

// background is what a node does meanwhile.
type background struct {
	wg     sync.WaitGroup
	failed chan error // of one: the first error counts
}

func (b *background) run(f func() error) {
	b.wg.Go(func() {
		if err := f(); err != nil {
			select {
			case b.failed <- err:
			default:
			}
		}
	})
}

// steadily does work in the background: a panic ends neither it nor the process.
func (n *node) steadily(ctx context.Context, b *background, where string, work func(context.Context)) {
	b.run(func() error { n.vault.Steadily(ctx, where, work); return nil })
}

// keep does what goes on until ctx ends.
func (n *node) keep(ctx context.Context, b *background, signals <-chan os.Signal) {
	for where, work := range map[string]func(context.Context){
		"watching": n.vault.Watch, "watching the KMS": n.watchKMS, "returning memory": returnMemory,
		"sharing processors": n.processors.share, "signals": func(ctx context.Context) { n.heed(ctx, signals) },
	} {
		n.steadily(ctx, b, where, work)
	}
	if n.config.bootstrap == nil {
		return
	}
	if n.config.weakBootstrap {
		n.log.WarnContext(ctx, "VAULT_BOOTSTRAP_TOKEN is short: who can guess it is an administrator")
	}
	n.steadily(ctx, b, "bootstrap", func(ctx context.Context) { n.vault.Bootstrap(ctx, n.config.bootstrap) })
}

// rotate takes rotations that are due until stop is closed. rotated is closed when
// what was under way then is done.
func (n *node) rotate(ctx context.Context, stop <-chan struct{}, b *background) (rotated <-chan struct{}) {
	done := make(chan struct{})
	if n.config.rotationPoll <= 0 {
		close(done)
		return done
	}
	b.run(func() error {
		defer close(done)
		n.vault.Steadily(ctx, "rotating", func(ctx context.Context) { n.vault.KeepRotating(ctx, n.config.rotationPoll, stop) })
		return nil
	})
	return done
}

func addresses(list []net.Listener) []string {
	texts := make([]string, len(list))
	for i, l := range list {
		texts[i] = l.Addr().String()
	}
	return texts
}

// heed serves SIGHUP (settings) and SIGUSR2 (forget the data keys).
func (n *node) heed(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGUSR2 {
				n.flush(ctx)
				continue
			}
			n.manager.reloading()
			n.reloadSettings(ctx)
			n.manager.ready()
		case <-ctx.Done():
			return
		}
	}
}
