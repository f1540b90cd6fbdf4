// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "github.com/hyperiondb/hyperion-vault/proxy/vault"

// recovered keeps a panic within its session: the connections close, the
// process goes on. The value of the panic may hold client bytes, so only its
// type is logged.
func (s *Server) recovered(where string) {
	if p := recover(); p != nil {
		s.panicked(where, p)
	}
}

// beside does work on a goroutine of its own.
func (s *Server) beside(where string, work func()) {
	go func() {
		defer s.recovered(where)
		work()
	}()
}

func (s *Server) panicked(where string, p any) {
	s.metrics.panics.Inc()
	vault.LogPanic(s.ctx, s.cfg.Log, where, p)
}
