// SPDX-License-Identifier: GPL-3.0-or-later

package report

import (
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

// load reads the rows that a run has left, sorted by client.
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
	slices.SortFunc(rows, func(a, b *Row) int { return strings.Compare(strings.ToLower(a.Client), strings.ToLower(b.Client)) })
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

// matrix has a column for each feature, a line under it for each that a driver
// lacks, and a last column for what only one driver does.
func matrix(b *strings.Builder, rows []*Row) {
	fmt.Fprintf(b, "| | version | %s | also |\n|---|---|%s---|\n", strings.Join(Features, " | "), strings.Repeat("---|", len(Features)))
	var notes []string
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s |", r.Client, r.Version)
		for _, feature := range Features {
			mark := "?"
			for _, result := range r.Results {
				if result.Feature != feature {
					continue
				}
				switch result.Outcome {
				case Passed:
					mark = "yes"
				case Absent:
					notes = append(notes, fmt.Sprintf("* %s, %s: %s", r.Client, feature, result.Remark))
					mark = "–"
				case Failed:
					mark = "**no**"
				}
			}
			fmt.Fprintf(b, " %s |", mark)
		}
		var also []string
		for _, result := range r.Results {
			if !slices.Contains(Features, result.Feature) {
				also = append(also, phrase(result))
			}
		}
		fmt.Fprintf(b, " %s |\n", strings.Join(also, "; "))
	}
	if len(notes) > 0 {
		fmt.Fprintf(b, "\n–: not there to try.\n\n%s\n", strings.Join(notes, "\n"))
	}
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
