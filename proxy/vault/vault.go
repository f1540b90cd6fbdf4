// SPDX-License-Identifier: GPL-3.0-or-later

// Package vault is the core that the SQL and the REST face share: what may
// happen to a secret, from where, and how that is recorded. It opens and seals
// records, applies the address policy, audits before plaintext leaves, and holds
// every SQL statement of the service role.
//
// Nothing here prints, logs or returns a value except as a [Plain], and errors
// are [Error]s whose [Kind] decides the SQLSTATE.
package vault

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Defaults of the miss limiter.
const (
	DefaultMaxMisses  = 5
	DefaultMissWindow = 300 * time.Second
)

// Config is what a Vault needs. Node, Local, User, Database, Pin and NewSealer
// have no default.
type Config struct {
	Node string // this node's name, for messages and the audit

	Local       Server   // the server beside this node
	Hosts       []Server // all servers of the cluster, to find the primary
	User        string   // the service role
	Password    string
	Database    string // which has the vault
	SSLMode     string // libpq's words; empty: prefer to loopback and sockets, else verify-full
	SSLRootCert string // path; empty: the system's
	AllowTrust  bool   // accept a server that asks for no password
	PoolMax     int    // connections to the local server; 0: 16

	// Socket wraps each connection to a server below TLS; nil: none is.
	Socket func(net.Conn) net.Conn

	Pin *Pin
	// NewSealer is called once, when the vault id is known: in New if it is
	// pinned, else when the local server was reached for the first time. The
	// Vault closes what it returns.
	NewSealer func(id envelope.UUID) (*envelope.Sealer, error)

	AllowedIPs *AllowList // by SQL; nil: nobody

	// REST's: from where secrets are read, by whom, and how long a write waits
	// while there is no primary.
	RESTAllowedIPs *AllowList // nil: nobody
	ReadAuth       ReadAuth
	PrimaryWait    time.Duration

	MaxMisses  int // wrong values per role and secret in a MissWindow, unknown tokens per address; 0: DefaultMaxMisses
	MissWindow time.Duration
	Lockout    time.Duration // of an address with more unknown tokens; 0: none is locked

	// MaxStaleness is how old may be what the local server shows of the primary for
	// secrets to be opened; 0: as old as it likes.
	MaxStaleness time.Duration

	Audit      audit.Sink // nil: audit.Discard
	Logins     LoginAudit
	Log        *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: nothing is counted
}

// Face is the door an actor came through.
type Face = audit.Face

// The two faces.
const (
	ViaSQL  = audit.FaceSQL
	ViaREST = audit.FaceREST
)

// Action is what an audit record says was done.
type Action = audit.Action

// What a face does by itself and has recorded, or asks Vault.Permit for.
const (
	ActionCreate = audit.ActionCreate
	ActionPut    = audit.ActionUpdate
	ActionRotate = audit.ActionRotate
	ActionRead   = audit.ActionRead
	ActionVerify = audit.ActionVerify
	ActionDelete = audit.ActionDelete
	ActionList   = audit.ActionList
	ActionGrant  = audit.ActionGrant
	ActionRevoke = audit.ActionRevoke

	ActionRoleList    = audit.ActionRoleList
	ActionRoleCreate  = audit.ActionRoleCreate
	ActionRoleUpdate  = audit.ActionRoleUpdate
	ActionRoleDelete  = audit.ActionRoleDelete
	ActionTokenList   = audit.ActionTokenList
	ActionTokenCreate = audit.ActionTokenCreate
	ActionTokenRevoke = audit.ActionTokenRevoke
)

// Actor is who asks, and from where.
type Actor struct {
	Name     string     // who logged in
	Role     string     // the role in whose name it runs
	Via      Face       // ViaSQL or ViaREST
	Addr     netip.Addr // the socket's peer; zero: a unix socket
	Database string
	Moved    bool      // what is opened comes from the primary, not from the server beside the node
	Since    time.Time // since when that server has not crashed; zero: nobody knows

	Statement uint64 // the fingerprint of what it runs; 0: not known
}

// Vault is the core of one node. Safe for concurrent use. Make it with New, run
// [Vault.Watch] beside it, and Close it after all its users.
type Vault struct {
	node      string
	pin       *Pin
	newSealer func(envelope.UUID) (*envelope.Sealer, error)
	sealer    atomic.Pointer[envelope.Sealer]
	starting  sync.Mutex // held while the sealer is made or the vault closed
	closed    bool       // guarded by starting

	allowed     atomic.Pointer[AllowList]
	restAllowed atomic.Pointer[AllowList]
	readAuth    atomic.Int32 // a ReadAuth
	primaryWait time.Duration
	atPrimary   primaryPool
	itsOwn      primaryPool // see byItself
	places      *places
	seen        seenWrites
	moved       chan struct{} // reads at the primary
	turns       turns

	audit   audit.Sink
	logins  LoginAudit
	log     *slog.Logger
	metrics *metrics
	misses  *missLimiter

	strangers   *strangers
	lockouts    *lockouts
	locksToTell chan netip.Prefix

	hmacKey [32]byte // compares candidates with values; this process only

	store     *store
	rules     hbaRules
	witnesses []*witness
	asking    singleflight.Group
	primary   atomic.Pointer[primaryAnswer]

	local         Server
	latest        atomic.Uint32 // timeline
	localReplaced atomic.Bool
	replay        atomic.Pointer[replayed]

	waiting atomic.Int32 // how many buffers wait for the KMS

	tellsReplayed bool // askReplayed's: the extension was seen to have vault.replayed()

	maxStaleness time.Duration
	written      written
	writer       atomic.Pointer[witness] // takeSample's; nil: none yet

	// findPrimary's.
	fence     fence
	replaced  claim // the last that was warned of
	localSaid claim // the last of the local server
	health    atomic.Pointer[Health]
	slots     atomic.Pointer[slotCount]
	rotation  atomic.Pointer[Rotation]
	shipping  shipState
}

// New returns a Vault. It makes no connection: a server that is down, a KMS
// that is away are found later and retried. The error is about the settings or
// from NewSealer.
func New(c Config) (*Vault, error) {
	switch {
	case c.Pin == nil || c.NewSealer == nil:
		return nil, errors.New("vault: Pin and NewSealer are needed")
	case c.Local.Addr == "" || c.User == "" || c.Database == "":
		return nil, errors.New("vault: Local, User and Database are needed")
	}
	if c.Audit == nil {
		c.Audit = audit.Discard{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxMisses <= 0 {
		c.MaxMisses = DefaultMaxMisses
	}
	if c.MissWindow <= 0 {
		c.MissWindow = DefaultMissWindow
	}
	store, err := newStore(c)
	if err != nil {
		return nil, err
	}
	v := &Vault{
		node: c.Node, pin: c.Pin, newSealer: c.NewSealer, audit: c.Audit, logins: c.Logins, log: c.Log,
		metrics: newMetrics(), misses: newMissLimiter(c.MaxMisses, c.MissWindow),
		strangers: newStrangers(),
		lockouts:  newLockouts(c.MaxMisses, c.MissWindow, c.Lockout), locksToTell: make(chan netip.Prefix, maxLocksToTell),
		store: store, local: c.Local, witnesses: witnesses(c.Hosts), maxStaleness: c.MaxStaleness,
	}
	_, _ = rand.Read(v.hmacKey[:]) // never returns an error, see crypto/rand
	v.allowed.Store(c.AllowedIPs)
	v.restAllowed.Store(c.RESTAllowedIPs)
	v.SetReadAuth(c.ReadAuth)
	v.primaryWait = c.PrimaryWait
	v.atPrimary.most, v.itsOwn.most = max(store.most/2, 1), itsOwnMost
	v.places = newPlaces(int(v.atPrimary.most))
	v.moved = make(chan struct{}, max(store.most/4, 1)) // half of that pool
	v.health.Store(&Health{Err: v.notReady()})
	if id, ok := c.Pin.ID(); ok {
		err = v.start(id)
	}
	if err == nil && c.Registerer != nil {
		err = v.metrics.register(c.Registerer, v)
	}
	if err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// start makes the sealer of a vault id, once.
func (v *Vault) start(id envelope.UUID) error {
	v.starting.Lock()
	defer v.starting.Unlock()
	if v.closed || v.sealer.Load() != nil {
		return nil
	}
	s, err := v.newSealer(id)
	if err != nil {
		return fmt.Errorf("the sealer cannot be made: %w", err)
	}
	if s.Vault() != id {
		s.Close()
		return errors.New("vault: NewSealer returned another vault's sealer")
	}
	v.sealer.Store(s)
	return nil
}

// closeTimeout bounds the goodbye to the servers: one that stands still would keep
// the pools, and the end of the node with them, for as long as a log-in may take.
const closeTimeout = 2 * time.Second

// Close closes the connections and the sealer, whose keys are zeroed. What
// comes later fails.
func (v *Vault) Close() {
	v.starting.Lock()
	v.closed = true
	s := v.sealer.Load()
	v.starting.Unlock()
	if s != nil {
		s.Close()
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		v.store.close()
		v.atPrimary.close()
		v.itsOwn.close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
	for _, w := range v.witnesses {
		w.close()
	}
	if w := v.writer.Load(); w != nil {
		w.close()
	}
	erase.Zero(v.hmacKey[:])
}

// SetAllowedIPs replaces the allowlists of both faces from the next operation on.
func (v *Vault) SetAllowedIPs(sql, rest *AllowList) {
	v.allowed.Store(sql)
	v.restAllowed.Store(rest)
}

// SetReadAuth replaces what REST asks of who reads and verifies.
func (v *Vault) SetReadAuth(way ReadAuth) { v.readAuth.Store(int32(way)) }

// SetPassword replaces the service role's password for new connections.
func (v *Vault) SetPassword(password string) { v.store.password.Store(&password) }

// SetMisses replaces how many wrong values each role may verify against a secret, and
// how many unknown tokens an address may send, within a window; and how long that is
// locked then. What is counted already stays.
func (v *Vault) SetMisses(most int, window, lockout time.Duration) {
	v.misses.set(most, window, time.Now())
	v.lockouts.set(most, window, lockout)
}

// Flush empties the cache of data keys.
func (v *Vault) Flush() {
	if s := v.sealer.Load(); s != nil {
		s.Flush()
	}
}

// Sealing returns the id of the KMS key that new secrets are sealed with, and what the
// sealer counts. false: the vault id is not known yet, so there is none.
func (v *Vault) Sealing() (keyID string, st envelope.Stats, ok bool) {
	s := v.sealer.Load()
	if s == nil {
		return "", envelope.Stats{}, false
	}
	return s.KeyID(), s.Stats(), true
}

// KMSOutages is how many calls of the KMS have failed for its own sake.
func (v *Vault) KMSOutages() uint64 {
	if s := v.sealer.Load(); s != nil {
		return s.Stats().KMSOutages
	}
	return 0
}

// Canary asks the KMS to make and unwrap a key, past the cache.
func (v *Vault) Canary(ctx context.Context) error {
	s, err := v.ready()
	if err != nil {
		return err
	}
	return s.Canary(ctx)
}

// ready returns the sealer, or an *Error why there is none yet.
func (v *Vault) ready() (*envelope.Sealer, error) {
	if s := v.sealer.Load(); s != nil {
		return s, nil
	}
	return nil, v.notReady()
}

func (v *Vault) notReady() *Error {
	return &Error{
		Kind:   KindNotReady,
		Msg:    fmt.Sprintf("node %q does not know its vault yet", v.node),
		Detail: "VAULT_ID is not set and the local server's vault has not been reached since the first start.",
		Hint:   "The node's log says why; it tries on by itself.",
	}
}

// GenerateValue returns a new value: 32 random bytes in base64url. The caller
// zeroes it.
func (v *Vault) GenerateValue() []byte { return randomText() }

func randomText() []byte {
	out := make([]byte, base64.RawURLEncoding.EncodedLen(generatedBytes))
	erase.Do(func() {
		var raw [generatedBytes]byte
		_, _ = rand.Read(raw[:]) // never returns an error, see crypto/rand
		base64.RawURLEncoding.Encode(out, raw[:])
		erase.Zero(raw[:])
	})
	return out
}

// generatedBytes is the size of a generated value before base64: 256 bits, which
// nobody guesses.
const generatedBytes = 32
