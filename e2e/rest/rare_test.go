// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// rare holds what a node says of its API, for answers that no example brings about.
var rare struct {
	sync.Mutex
	*description
}

// described compares an answer with its description if it is one of those: too many of
// something, a fault, a part away.
func described(t *testing.T, method, path string, a answer) {
	t.Helper()
	if !slices.Contains([]int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}, a.status) {
		return
	}
	rare.Lock()
	defer rare.Unlock()
	if rare.description == nil {
		rare.description = describe(t)
	}
	path, _, _ = strings.Cut(path, "?")
	var found operation
	for _, o := range rare.operations() {
		if strings.EqualFold(o.method, method) && strings.HasPrefix(o.path, "/v1/") && isOf(o.path, path) && len(o.path) > len(found.path) {
			found = o
		}
	}
	if found.path != "" {
		rare.answered(t, found, path, a)
	}
}

var parameter = regexp.MustCompile(`\\\{\w+\\\}`)

// isOf tells whether a path is one that a template describes: a name may have slashes.
func isOf(template, path string) bool {
	return regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(template), ".+") + "$").MatchString(path)
}
