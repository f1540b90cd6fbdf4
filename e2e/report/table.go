// SPDX-License-Identifier: GPL-3.0-or-later

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Features are what each driver's suite goes through, in the table's order. A
// driver that lacks one says why.
var Features = []string{
	"put", "read text", "read binary", "prepare", "pipeline", "cursor", "copy in", "copy out",
	"transaction", "savepoint", "error", "cancel", "notify", "large object",
}

// load reads the rows that a run has left, sorted by client, and by server.
func load(dir string) ([]*Row, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var rows []*Row
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		r := &Row{}
		if err := json.Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *Row) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Client), strings.ToLower(b.Client)), strings.Compare(a.Server, b.Server))
	})
	return rows, nil
}

// table is one kind's rows as Markdown; empty where there are none.
func table(rows []*Row, kind Kind) string {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r *Row) bool { return r.Kind != kind })
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	if kind == Drivers {
		matrix(&b, rows)
		return b.String()
	}
	heads := "| | version | what was seen |"
	if kind == Loads {
		heads = "| | version; statements | where they run |"
	}
	b.WriteString(heads + "\n|---|---|---|\n")
	for _, r := range rows {
		var seen []string
		for _, result := range r.Results {
			seen = append(seen, phrase(result))
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Client, r.Version, strings.Join(seen, "; "))
	}
	return b.String()
}

// matrix has a line for each client, of which each row is one server's; a column
// for each feature, a line under it for each that a driver lacks, and a last column
// for what only one driver does.
func matrix(b *strings.Builder, rows []*Row) {
	fmt.Fprintf(b, "| | version | node beside | %s | also |\n|---|---|---|%s---|\n", strings.Join(Features, " | "), strings.Repeat("---|", len(Features)))
	var notes []string
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Client == rows[0].Client {
			n++
		}
		client := rows[:n]
		rows = rows[n:]
		fmt.Fprintf(b, "| %s | %s | %s |", client[0].Client, client[0].Version, each(client, func(r *Row) string { return r.Server }))
		for _, feature := range Features {
			fmt.Fprintf(b, " %s |", agreed(client, func(r *Row) string { return r.mark(feature) }))
			if why := agreed(client, func(r *Row) string { return r.lack(feature) }); why != "" {
				notes = append(notes, fmt.Sprintf("* %s, %s: %s", client[0].Client, feature, why))
			}
		}
		fmt.Fprintf(b, " %s |\n", agreed(client, (*Row).also))
	}
	if len(notes) > 0 {
		fmt.Fprintf(b, "\n–: not there to try.\n\n%s\n", strings.Join(notes, "\n"))
	}
}

// each are what the rows of a client say.
func each(client []*Row, says func(r *Row) string) string {
	var said []string
	for _, r := range client {
		said = append(said, says(r))
	}
	return strings.Join(said, ", ")
}

// agreed is what all rows of a client say, or what each says with its server.
func agreed(client []*Row, says func(r *Row) string) string {
	for _, r := range client[1:] {
		if says(r) != says(client[0]) {
			return each(client, func(r *Row) string { return r.Server + ": " + says(r) })
		}
	}
	return says(client[0])
}

// mark is a row's word for a feature.
func (r *Row) mark(feature string) string {
	for _, result := range r.Results {
		if result.Feature == feature {
			return map[Outcome]string{Passed: "yes", Absent: "–", Failed: "**no**"}[result.Outcome]
		}
	}
	return "?"
}

// lack is why a row has not got the feature; empty if it has.
func (r *Row) lack(feature string) string {
	for _, result := range r.Results {
		if result.Feature == feature && result.Outcome == Absent {
			return result.Remark
		}
	}
	return ""
}

// also is what only this driver does.
func (r *Row) also() string {
	var also []string
	for _, result := range r.Results {
		if !slices.Contains(Features, result.Feature) {
			also = append(also, phrase(result))
		}
	}
	return strings.Join(also, "; ")
}

func phrase(r Result) string {
	text := r.Feature
	if r.Outcome != Passed {
		text = "**" + string(r.Outcome) + "**: " + text
	}
	if r.Remark != "" {
		text += ": " + r.Remark
	}
	return text
}
