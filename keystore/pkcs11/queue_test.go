package pkcs11

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A queue keeps the order in which jobs came, whatever is taken out and put back in between, and its bound.
func TestQueueIsFair(t *testing.T) {
	const limit = 50
	q := &queue{limit: limit}
	w := newWorker(&Token{})
	var model []*signJob
	dice := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		switch n := dice.IntN(10); {
		case n < 5:
			j := &signJob{}
			room, waits := q.put(j)
			if room != (len(model) < limit) || waits != room {
				t.Fatalf("with %d in the queue: room %t, waits %t", len(model), room, waits)
			}
			if room {
				model = append(model, j)
			}
		case n < 7 && len(model) > 0:
			if j := q.take(w); j != model[0] {
				t.Fatal("not the one that waited longest")
			}
			model = model[1:]
		case n < 8 && len(model) > 0:
			i := dice.IntN(len(model))
			if !q.remove(model[i]) || q.remove(model[i]) {
				t.Fatal("not removed once")
			}
			model = slices.Delete(model, i, i+1)
		case n < 9 && len(model) > 0:
			j := q.take(w)
			q.giveBack(j)
			if j != model[0] {
				t.Fatal("not the one that waited longest")
			}
		case n == 9 && dice.IntN(100) == 0:
			if got := q.drain(); !slices.Equal(got, model) {
				t.Fatal("what was drained is not what waited")
			}
			model = nil
		}
		if q.waiting() != len(model) {
			t.Fatalf("%d wait, want %d", q.waiting(), len(model))
		}
	}
}

// An idle worker is handed a job at once, the one that worked last first; a worker that finds nothing is idle.
func TestQueueHandsOver(t *testing.T) {
	q := &queue{limit: 1}
	first, second := newWorker(&Token{}), newWorker(&Token{})
	if q.take(first) != nil || q.take(second) != nil {
		t.Fatal("something to do in an empty queue")
	}
	a, b, c, d := &signJob{}, &signJob{}, &signJob{}, &signJob{}
	for _, j := range []*signJob{a, b} {
		if room, waits := q.put(j); !room || waits {
			t.Errorf("room %t, waits %t", room, waits)
		}
	}
	if <-second.next != a || <-first.next != b {
		t.Error("handed to the wrong worker")
	}
	if room, waits := q.put(c); !room || !waits {
		t.Errorf("room %t, waits %t", room, waits)
	}
	if room, _ := q.put(d); room {
		t.Error("more than the limit")
	}
	if q.take(first) != c || q.take(first) != nil {
		t.Error("not what waited")
	}
	q.giveBack(d)
	if <-first.next != d {
		t.Error("given back to nobody")
	}
}

// Every return value that the standard has means something that was decided, and all others are doubtful.
func TestMeanings(t *testing.T) {
	for code, name := range map[uint]string{0x30: "CKR_DEVICE_ERROR", 0xb3: "CKR_SESSION_HANDLE_INVALID", 0x80000000: "CKR_0x80000000",
		0x80001234: "CKR_0x80001234", 0x999: "CKR_0x00000999"} {
		if got := codeName(code); got != name {
			t.Errorf("%#x is called %s, want %s", code, got, name)
		}
	}
	for _, code := range []uint{0x999, 0x80000000, 0x80001234, ^uint(0)} {
		if got := meaningOf(code); got != doubtful {
			t.Errorf("%#x means %d", code, got)
		}
	}
	s := newStats()
	for code := range uint(2 * maxErrorNames) {
		s.failed(0x80000000 + code)
	}
	if len(s.errors) != maxErrorNames+1 || s.errors[otherErrors] != maxErrorNames {
		t.Errorf("%d names, %d others", len(s.errors), s.errors[otherErrors])
	}
}
