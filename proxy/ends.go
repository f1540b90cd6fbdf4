// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// lookEvery is how often sessions that wait are looked at. An end of a
// connection that came together with data is seen after twice that time.
const lookEvery = 100 * time.Millisecond

// silentEvery is how often it is looked whether primaries answer.
const silentEvery = time.Second

// sweepEnds ends the waits of sessions whose other end has gone unseen, until the
// server ends.
func (s *Server) sweepEnds(ctx context.Context) {
	var sweeper wire.Sweeper
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := s.fence()
	silent := time.NewTicker(silentEvery)
	defer silent.Stop()
	park := time.NewTicker(parkEvery)
	defer park.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-park.C:
			s.parkIdle()
			for _, ss := range s.all() {
				ss.expireSpare(s.cfg.Park)
			}
			continue
		case <-silent.C:
			s.sweepSilent()
			continue
		case <-tick.C:
		}
		if now := s.fence(); now != seen {
			seen = now
			s.fenceOff(seen)
		}
		s.addTo(&sweeper)
		sweeper.Sweep()
	}
}

func (s *Server) addTo(sweeper *wire.Sweeper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ss := range s.sessions {
		sweeper.Add(ss.client)
		sweeper.Add(ss.server().Conn)
	}
}
