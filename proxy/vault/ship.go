// SPDX-License-Identifier: GPL-3.0-or-later

package vault

// ShipMode is which records go to the vault.
type ShipMode int

// The modes.
const (
	ShipAll    ShipMode = iota // all
	ShipWrites                 // all, but of what only looks nothing than the links of the chain
	ShipOff                    // none
)

// RemarkShipWrites ends the record of a start with ShipWrites: who verifies the chain
// knows why there are rows without content.
const RemarkShipWrites = "ship writes"
