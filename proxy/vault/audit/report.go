// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import "fmt"

// Kind is what was found.
type Kind string

// What evidence may have suffered.
const (
	Removed        Kind = "removed"            // records are missing
	CutOff         Kind = "cut off"            // a head is known of a record that is not there any more
	Inserted       Kind = "inserted"           // a record that is not of the chain, or is there twice
	Changed        Kind = "changed"            // a record is not what its hash says
	Reordered      Kind = "reordered"          // a record is not in its place
	Rewritten      Kind = "rewritten"          // from there on it is another chain
	Forked         Kind = "forked"             // two chains of one node
	Untrusted      Kind = "untrusted"          // nothing that is trusted speaks for it
	Withheld       Kind = "withheld"           // contents are not there; a note if the node has said so
	LostByRestore  Kind = "lost by restore"    // records that the vault lost, as the node has recorded; a note if the operator knows
	Damaged        Kind = "damaged"            // a spool's file is not as a node leaves it
	NotThroughNode Kind = "not through a node" // a change that no record names
	NotCompared    Kind = "not compared"       // changes and records; a note if they are of different times
)

// What is to be known of evidence with which nothing is wrong: notes.
const (
	MayBeMissing  Kind = "may be missing" // the machine went down in batch mode
	Clock         Kind = "clock"          // it was set
	Pruned        Kind = "pruned"         // records were deleted for their age, or left out of an export
	ChangeMissing Kind = "change missing" // a record names a change that is not there
)

// Finding is one thing that is wrong, or to be known.
type Finding struct {
	Kind   Kind
	Node   NodeID // zero: it is of no node
	Seq    uint64 // the record at which it shows
	Change int64  // the change; 0: it is of none
	Detail string
}

func (f Finding) String() string {
	switch {
	case f.Change != 0:
		return fmt.Sprintf("change %d: %s: %s", f.Change, f.Kind, f.Detail)
	case f.Node == NodeID{}:
		return fmt.Sprintf("%s: %s", f.Kind, f.Detail)
	}
	return fmt.Sprintf("node %v: %s: %s", f.Node, f.Kind, f.Detail)
}

// NodeReport is how much of a node's chain there is.
type NodeReport struct {
	Node        NodeID
	First, Last uint64
	Proven      uint64 // the last record that is as a trusted head says
}

// Report is what Verify found.
type Report struct {
	Nodes    []NodeReport // by node id
	Findings []Finding    // what is wrong
	Notes    []Finding    // what is to be known
	Compared int          // changes of which there must be a record
	// For more there was no room.
	MoreFindings, MoreNotes int
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 && r.MoreFindings == 0 }

// maxFindings is how many are listed: a table of nonsense has as many as rows.
const maxFindings = 1000

func (r *Report) found(f Finding) { add(&r.Findings, f, &r.MoreFindings) }

func (r *Report) noted(f Finding) { add(&r.Notes, f, &r.MoreNotes) }

func add(list *[]Finding, f Finding, more *int) {
	if len(*list) == maxFindings {
		*more++
		return
	}
	*list = append(*list, f)
}
