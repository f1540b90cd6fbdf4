// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import "math/rand/v2"

// cover chooses rows of the product of some dimensions so that every choice of
// strength values of different dimensions is in one of them: bugs hide where two
// or three things meet, seldom more. Each row is greedy over some random ones.
func cover(rng *rand.Rand, sizes []int, strength int) [][]int {
	missing := map[string][]int{}
	var subsets [][]int
	choose(len(sizes), strength, func(dims []int) {
		subsets = append(subsets, dims)
		each(sizes, dims, func(values []int) { missing[key(dims, values)] = append(append([]int{}, dims...), values...) })
	})
	var rows [][]int
	for len(missing) > 0 {
		var row []int
		gain := 0
		for range 8 {
			r := make([]int, len(sizes))
			for i, n := range sizes {
				r[i] = rng.IntN(n)
			}
			// One that is missing is always in the row.
			for _, one := range missing {
				for i, dim := range one[:strength] {
					r[dim] = one[strength+i]
				}
				break
			}
			if g := count(missing, subsets, r); g > gain {
				row, gain = r, g
			}
		}
		for _, dims := range subsets {
			delete(missing, key(dims, pick(row, dims)))
		}
		rows = append(rows, row)
	}
	return rows
}

func count(missing map[string][]int, subsets [][]int, row []int) (n int) {
	for _, dims := range subsets {
		if _, is := missing[key(dims, pick(row, dims))]; is {
			n++
		}
	}
	return n
}

func pick(row, dims []int) []int {
	out := make([]int, len(dims))
	for i, d := range dims {
		out[i] = row[d]
	}
	return out
}

func key(dims, values []int) string {
	b := make([]byte, 0, 3*len(dims))
	for i := range dims {
		b = append(b, byte(dims[i]), byte(values[i]>>8), byte(values[i]))
	}
	return string(b)
}

// choose calls f for each set of k of n dimensions.
func choose(n, k int, f func([]int)) {
	var walk func(from int, set []int)
	walk = func(from int, set []int) {
		if len(set) == k {
			f(append([]int{}, set...))
			return
		}
		for i := from; i < n; i++ {
			walk(i+1, append(set, i))
		}
	}
	walk(0, nil)
}

// each calls f for each choice of values of the dimensions.
func each(sizes, dims []int, f func([]int)) {
	values := make([]int, len(dims))
	for {
		f(values)
		i := len(dims) - 1
		for ; i >= 0; i-- {
			if values[i]++; values[i] < sizes[dims[i]] {
				break
			}
			values[i] = 0
		}
		if i < 0 {
			return
		}
	}
}

// doors is the table: all good values of every dimension against each other,
// then each bad value of one against the good ones of the others, so that no
// refusal hides another.
func table(rng *rand.Rand, strength int) []door {
	var all []door
	add := func(shapes []shape, calls []call, literals []literal, transports []transport, settings []setting, dbs []string) {
		sizes := []int{len(shapes), len(calls), len(literals), len(transports), len(settings), len(dbs)}
		for _, r := range cover(rng, sizes, strength) {
			all = append(all, door{shapes[r[0]], calls[r[1]], literals[r[2]], transports[r[3]], settings[r[4]], dbs[r[5]]})
		}
	}
	app := databases[:1]
	one := func(n int) int { return min(n, 12) } // of the good ones, where a bad one decides
	add(now, goodCalls, goodLiterals, goodTransports, goodSettings, app)
	add(refused, goodCalls[:one(16)], goodLiterals[:one(40)], goodTransports, goodSettings[:8], app)
	add(now[:one(60)], badCalls, goodLiterals[:one(40)], goodTransports, goodSettings[:one(30)], app)
	add(now[:one(60)], goodCalls[:one(16)], badLiterals, goodTransports, goodSettings[:one(30)], app)
	add(now[:one(60)], goodCalls[:one(16)], goodLiterals[:one(40)], badTransports, goodSettings[:one(30)], app)
	add(now[:one(60)], goodCalls[:one(16)], goodLiterals, goodTransports, badSettings, app)
	add(now[:one(60)], goodCalls[:one(16)], goodLiterals, goodTransports, aheadSettings, app)
	add(append(now[:one(60):one(60)], refused...), goodCalls[:8], goodLiterals[:8], goodTransports[:8], goodSettings[:1], databases[1:])
	add(now[:one(60)], chosen(func(c call) bool { return c.bare }), goodLiterals[:8], goodTransports[:8], pathSettings, app)
	add(now[:one(60)], chosen(func(c call) bool { return c.supabase }), goodLiterals[:8], goodTransports[:8], goodSettings[:1], databases[1:])
	return all
}
