// SPDX-License-Identifier: GPL-3.0-or-later

package report

import "testing"

func TestTable(t *testing.T) {
	rows := []*Row{
		{Kind: Drivers, Client: "a", Version: "1", Results: []Result{
			{Feature: "put", Outcome: Passed},
			{Feature: "cursor", Outcome: Absent, Remark: "it has none"},
			{Feature: "error", Outcome: Failed},
			{Feature: "batch", Outcome: Passed},
		}},
		{Kind: Drivers, Client: "c", Version: "3", Server: "primary", Results: []Result{
			{Feature: "put", Outcome: Passed},
			{Feature: "notify", Outcome: Passed},
			{Feature: "batch", Outcome: Passed},
			{Feature: "cancel", Outcome: Absent, Remark: "it cannot"},
		}},
		{Kind: Drivers, Client: "c", Version: "3", Server: "standby", Results: []Result{
			{Feature: "put", Outcome: Passed},
			{Feature: "notify", Outcome: Failed},
			{Feature: "batch", Outcome: Passed},
			{Feature: "cancel", Outcome: Absent, Remark: "it cannot"},
		}},
		{Kind: Tools, Client: "b", Version: "2", Results: []Result{{Feature: "x", Outcome: Passed, Remark: "3 of 3"}, {Feature: "y", Outcome: Failed}}},
	}
	want := map[Kind]string{
		Drivers: `| | version | node beside | put | read text | read binary | prepare | pipeline | cursor | copy in | copy out | transaction | savepoint | error | cancel | notify | large object | also |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| a | 1 |  | yes | ? | ? | ? | ? | – | ? | ? | ? | ? | **no** | ? | ? | ? | batch |
| c | 3 | primary, standby | yes | ? | ? | ? | ? | ? | ? | ? | ? | ? | ? | – | primary: yes, standby: **no** | ? | batch |

–: not there to try.

* a, cursor: it has none
* c, cancel: it cannot
`,
		Tools:  "| | version | what was seen |\n|---|---|---|\n| b | 2 | x: 3 of 3; **failed**: y |\n",
		Suites: "",
	}
	for kind, want := range want {
		if got := table(rows, kind); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", kind, got, want)
		}
	}
}
