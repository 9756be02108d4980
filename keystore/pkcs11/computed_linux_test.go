package pkcs11_test

import (
	"testing"
	"time"

	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// A worker yields to callers after a signature that was computed on this CPU, and not after one that a device was waited for.
func TestComputedOrWaitedFor(t *testing.T) {
	fault, token, _, key := newFault(t, nil)
	input, err := key.Algorithm.Input([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	computed := func(n int) (count int) {
		for range n {
			c, err := token.Computed(t.Context(), key.ID, input)
			if err != nil {
				t.Fatal(err)
			}
			if c {
				count++
			}
		}
		return count
	}
	if n := computed(50); n < 25 { // SoftHSM may wait for a file now and then
		t.Errorf("%d of 50 were computed", n)
	}
	fault.Delay(faulty.Sign, 50, 100*time.Microsecond)
	if n := computed(50); n != 0 {
		t.Errorf("%d of 50 were computed by a device that is slow", n)
	}
}
