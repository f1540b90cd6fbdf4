// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// A statement that has succeeded and is reported as anything else than a change that
// was made is not committed.
func TestChangingIsTold(t *testing.T) {
	for report, want := range map[string]bool{
		"delete ok - 3 4711 a":        true,
		"grant ok - 0 1 app a/*":      true,
		"delete ok - 3 0 a":           false,
		"delete failed missing 0 0 a": false,
		"delete denied denied 0 7 a":  false,
		"delete ok":                   false,
	} {
		c := &changing{record: audit.Record{Outcome: audit.OutcomeOK}}
		err := c.told(report)
		if (err == nil) != want || (len(c.records) == 1) != want || err != nil && KindOf(err) != KindServer {
			t.Errorf("%s: got %v, records %v", report, err, c.records)
		}
		if want && (c.records[0].Change == 0 || c.records[0].Outcome != audit.OutcomeOK) {
			t.Errorf("%s: recorded %+v", report, c.records[0])
		}
	}
}
