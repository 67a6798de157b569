// Gets and puts 4 KiB from sync.Pools by size class, counting what ours counts, with atomic
// counters: regular, secure (zeroed when taken and given back) and random (filled from crypto/rand
// both times). For each line with the name of a kind it prints the nanoseconds of processor time
// that one get and put took. With an argument it prints Go's version.
package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const size = 4096

var sizes = []int{2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10}

type class struct {
	pool                                      sync.Pool
	size                                      int
	gets, puts, hits, misses                  atomic.Uint64
	bytesAllocated, bytesReused, buffersInUse atomic.Int64
}

type pool struct {
	classes []*class
	clean   func([]byte)
}

func newPool(clean func([]byte)) *pool {
	p := &pool{clean: clean}
	for _, n := range sizes {
		p.classes = append(p.classes, &class{size: n})
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
	b, there := c.pool.Get().(*[]byte)
	if there {
		c.hits.Add(1)
		c.bytesReused.Add(int64(c.size))
	} else {
		c.misses.Add(1)
		c.bytesAllocated.Add(int64(c.size))
		fresh := make([]byte, c.size)
		b = &fresh
	}
	c.gets.Add(1)
	c.buffersInUse.Add(1)
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
	c.buffersInUse.Add(-1)
	c.pool.Put(b)
}

func zero(b []byte) { clear(b) }

func random(b []byte) {
	if _, err := rand.Read(b); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// processorTime is what this process got of the processors, its collector included; getrusage(2)
// has the same number as of the last tick only.
func processorTime() time.Duration {
	const clockProcessCPUTimeID = 2 // linux/time.h
	var t syscall.Timespec
	_, _, err := syscall.Syscall(
		syscall.SYS_CLOCK_GETTIME, clockProcessCPUTimeID, uintptr(unsafe.Pointer(&t)), 0)
	if err != 0 {
		fmt.Fprintln(os.Stderr, "clock_gettime:", err)
		os.Exit(1)
	}
	return time.Duration(t.Nano())
}

func main() {
	if len(os.Args) > 1 {
		fmt.Println(runtime.Version())
		return
	}
	pools := map[string]*pool{"regular": newPool(nil), "secure": newPool(zero), "random": newPool(random)}
	loops := map[string]int{"regular": 100000, "secure": 50000, "random": 500}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		p, n := pools[lines.Text()], loops[lines.Text()]
		if p == nil {
			fmt.Fprintln(os.Stderr, "no such kind:", lines.Text())
			os.Exit(2)
		}
		began := processorTime()
		for i := 0; i < n; i++ {
			p.put(p.get(size))
		}
		fmt.Println(float64((processorTime() - began).Nanoseconds()) / float64(n))
	}
}
