// Times get and put of 4 KiB from sync.Pools by size class with atomic counters: plain, zeroed
// when taken and given back, and filled from crypto/rand both times. Prints nanoseconds as JSON.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const (
	rounds = 15
	size   = 4096
)

var sizes = []int{2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10}

type class struct {
	pool                     sync.Pool
	size                     int
	gets, puts, misses, used atomic.Uint64
}

type pool struct {
	classes []*class
	clean   func([]byte)
}

func newPool(clean func([]byte)) *pool {
	p := &pool{clean: clean}
	for _, n := range sizes {
		c := &class{size: n}
		c.pool.New = func() any {
			c.misses.Add(1)
			b := make([]byte, c.size)
			return &b
		}
		p.classes = append(p.classes, c)
	}
	return p
}

func (p *pool) fitting(n int) *class {
	for _, c := range p.classes {
		if n <= c.size {
			return c
		}
	}
	return nil
}

func (p *pool) get(n int) *[]byte {
	c := p.fitting(n)
	if c == nil {
		b := make([]byte, n)
		return &b
	}
	b := c.pool.Get().(*[]byte)
	c.gets.Add(1)
	c.used.Add(uint64(c.size))
	if p.clean != nil {
		p.clean(*b)
	}
	return b
}

func (p *pool) put(b *[]byte) {
	c := p.fitting(cap(*b))
	if c == nil || cap(*b) != c.size {
		return
	}
	if p.clean != nil {
		p.clean(*b)
	}
	c.puts.Add(1)
	c.pool.Put(b)
}

func zero(b []byte) { clear(b) }

func random(b []byte) {
	if _, err := rand.Read(b); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func nanoseconds(p *pool, loops int) float64 {
	began := time.Now()
	for i := 0; i < loops; i++ {
		p.put(p.get(size))
	}
	return float64(time.Since(began).Nanoseconds()) / float64(loops)
}

func main() {
	pools := map[string]*pool{"regular": newPool(nil), "secure": newPool(zero), "random": newPool(random)}
	loops := map[string]int{"regular": 200000, "secure": 50000, "random": 1000}
	times := map[string][]float64{}
	for round := 0; round <= rounds; round++ {
		for kind, p := range pools {
			took := nanoseconds(p, loops[kind])
			if round > 0 { // the first one warms up
				times[kind] = append(times[kind], took)
			}
		}
	}
	for _, each := range times {
		sort.Float64s(each)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"kinds": times})
}
