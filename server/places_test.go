package server

import (
	"context"
	"errors"
	"testing"

	"github.com/signetd/signet/server/internal/identity"
)

func TestPlaces(t *testing.T) {
	as := func(id string) context.Context {
		return context.WithValue(t.Context(), callerKey{}, identity.Caller{ID: id})
	}
	p := newPlaces(2, 1)
	leave, err := p.take(as("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.take(as("a")); !errors.Is(err, errTooManyCalls) {
		t.Fatalf("a second call of one caller: %v", err)
	}
	if _, err := p.take(as("b")); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithCancel(as("c"))
	cancel()
	if _, err := p.take(waiting); !errors.Is(err, context.Canceled) {
		t.Fatalf("a third caller: %v", err)
	}
	leave()
	for range 2 { // and what c did not get is not counted against c
		leave, err := p.take(as("c"))
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	if len(p.used) != 1 {
		t.Fatalf("%v", p.used)
	}
}
