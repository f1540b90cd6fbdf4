// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	_ "embed" // for openapi.json
	"net/http"
)

// descriptionPath is where a node describes its API: to everybody, for it tells
// nothing of this node.
const descriptionPath = "/openapi.json"

// description is an OpenAPI 3.1 document. Tests compare it with the handlers, and
// replay its examples at a node.
//
//go:embed openapi.json
var description []byte

// GET /openapi.json
func describe(w http.ResponseWriter, _ *request) error {
	send(w, http.StatusOK, description)
	return nil
}
