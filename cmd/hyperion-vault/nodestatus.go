// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"

	"github.com/hyperiondb/hyperion-vault/proxy"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// nodeStatus is the answer to `status`. OPERATIONS.md describes it: fields may be
// added, and none of these changes its name or meaning.
type nodeStatus struct {
	Node      string `json:"node"`
	Version   string `json:"version"`
	Extension string `json:"extension,omitempty"`
	VaultID   string `json:"vault_id,omitempty"`
	readiness
	Primary string `json:"primary,omitempty"` // address; empty: not found
	// Staleness is how old is what the server beside the node shows; nil: not known,
	// or VAULT_MAX_STALENESS does not want to know.
	Staleness    *float64            `json:"staleness_seconds,omitempty"`
	MaxStaleness float64             `json:"max_staleness_seconds,omitempty"`
	Servers      []serverStatus      `json:"servers"`
	AuditNodes   []auditNodeStatus   `json:"audit_nodes"`
	KMS          kmsStatus           `json:"kms"`
	Cache        *cacheStatus        `json:"cache,omitempty"` // nil: no server was reached yet
	Rotation     rotationStatus      `json:"rotation"`
	Audit        auditStatus         `json:"audit"`
	Sessions     []proxy.SessionInfo `json:"sessions"`
}

// A serverStatus is a server of the cluster as this node can see it.
type serverStatus struct {
	Address  string  `json:"address"`
	Beside   bool    `json:"beside"` // this node
	Reached  bool    `json:"reached"`
	Error    string  `json:"error,omitempty"` // why it was not
	Role     string  `json:"role,omitempty"`  // primary, standby, replaced, foreign
	Timeline uint32  `json:"timeline,omitempty"`
	Lag      *uint64 `json:"lag_bytes,omitempty"`
	Version  string  `json:"version,omitempty"`
}

// An auditNodeStatus is a node whose records are in the vault, as the server beside
// this node shows it.
type auditNodeStatus struct {
	vault.AuditNode
	Self bool `json:"self"`
}

type kmsStatus struct {
	Mode     string `json:"mode"`             // aws, local
	Key      string `json:"key_id,omitempty"` // which new secrets are sealed with
	Usable   bool   `json:"usable"`
	Error    string `json:"error,omitempty"`
	Calls    uint64 `json:"calls"`
	Failures uint64 `json:"failures"`
}

type cacheStatus struct {
	Entries  int     `json:"entries"`
	Capacity int     `json:"capacity"`
	Hits     uint64  `json:"hits"`
	Misses   uint64  `json:"misses"`
	Locked   bool    `json:"locked"` // in memory that is never swapped
	TTL      float64 `json:"ttl_seconds"`
}

type rotationStatus struct {
	Enabled bool   `json:"enabled"`           // by this node
	Due     int64  `json:"due"`               // in the whole vault, as are the others
	Claimed *int64 `json:"claimed,omitempty"` // nil: the extension's library is older than 1.9
	Failing int64  `json:"failing"`
	Error   string `json:"error,omitempty"` // why this node rotates none
}

type auditStatus struct {
	NodeID   string  `json:"node_id"`
	Key      string  `json:"key"` // fingerprint
	Ship     string  `json:"ship"`
	Records  uint64  `json:"records"`
	Durable  uint64  `json:"durable"`
	Shipped  uint64  `json:"shipped"`
	Depth    uint64  `json:"depth"`           // records that are not shipped
	Waiting  float64 `json:"waiting_seconds"` // for how long none was, though some wait
	Alarm    bool    `json:"alarm"`           // somebody has to look
	Error    string  `json:"error,omitempty"` // why none is shipped, or written
	Segments int     `json:"segments"`
	Free     uint64  `json:"free_bytes"`
	LowSpace bool    `json:"low_space"`
}

// status is what readyz and the metrics tell, and what other servers say.
func (n *node) status(ctx context.Context) nodeStatus {
	servers := make(chan []vault.ServerState, 1)
	go func() { servers <- n.vault.Servers(ctx) }()
	s := nodeStatus{Node: n.name, Version: version, Servers: []serverStatus{}, AuditNodes: []auditNodeStatus{}, Sessions: n.proxy.Sessions()}
	s.readiness, _ = n.ready(ctx, nil)
	s.Role = n.probe.role()
	if p, err := n.vault.Primary(ctx); err == nil {
		s.Primary = p.Addr
	}
	s.MaxStaleness = n.config.maxStaleness.Seconds()
	if age, known := n.vault.Staleness(); known && n.config.maxStaleness > 0 {
		seconds := age.Seconds()
		s.Staleness = &seconds
	}
	s.KMS, s.Cache = n.sealing()
	s.Audit = n.spoolStatus()
	r := n.vault.Rotation()
	s.Rotation = rotationStatus{Enabled: n.config.rotationPoll > 0, Due: r.Open, Failing: r.Failing, Error: told(r.Err)}
	if st, err := n.probe.last(); err != nil {
		s.Parts["server"] = told(err)
	} else {
		s.VaultID, s.Extension, s.Rotation.Claimed = st.VaultID, st.ExtensionVersion, st.RotationsClaimed
		for _, a := range st.AuditNodes {
			s.AuditNodes = append(s.AuditNodes, auditNodeStatus{a, a.ID == s.Audit.NodeID})
		}
	}
	for _, at := range <-servers {
		one := serverStatus{
			Address: at.Addr, Beside: at.Beside, Reached: at.Err == nil, Role: string(at.Role),
			Timeline: at.Timeline, Lag: at.Lag, Version: at.Version,
		}
		if at.Err != nil {
			one.Error = connectFault(at.Err)
		}
		s.Servers = append(s.Servers, one)
	}
	return s
}

// sealing is how the KMS and the cache of data keys are.
func (n *node) sealing() (kmsStatus, *cacheStatus) {
	err := n.kms.Load().err
	k := kmsStatus{Mode: "local", Usable: err == nil, Error: told(err)}
	if n.config.kmsKeyID != "" {
		k.Mode = "aws"
	}
	key, st, ok := n.vault.Sealing()
	if !ok {
		return k, nil
	}
	k.Key, k.Calls, k.Failures = key, st.KMSCalls, st.KMSFailures
	return k, &cacheStatus{
		Entries: st.Cached, Capacity: st.Capacity, Hits: st.Hits, Misses: st.Misses, Locked: st.Locked, TTL: n.config.cacheTTL.Seconds(),
	}
}

// told is an error with its cause, for the operator; empty: none.
func told(err error) string {
	if err == nil {
		return ""
	}
	what, _ := explain(err)
	return what
}
