package conform

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
)

// Some runs some checks over a connection of its own, once a run has begun over an honest one, and returns the last.
func Some(ctx context.Context, o Options, conn grpc.ClientConnInterface, ids ...string) (Check, error) {
	return Meanwhile(ctx, o, conn, func() {}, ids...)
}

// Meanwhile is Some after something else that takes its time.
func Meanwhile(ctx context.Context, o Options, conn grpc.ClientConnInterface, first func(), ids ...string) (Check, error) {
	honest, err := o.Dial()
	if err != nil {
		return Check{}, err
	}
	o.Clock = time.Now
	r := &run{o: o, conn: honest, plain: ctx, genuine: map[string]bool{}}
	if err := r.begin(); err != nil {
		return Check{}, err
	}
	r.conn = conn
	defer r.stay()()
	first()
	for _, id := range ids {
		r.one(checks[slices.IndexFunc(checks, func(c check) bool { return c.id == id })])
	}
	return r.report.Checks[len(ids)-1], nil
}

// IDs are the names of all checks.
func IDs() (ids []string) {
	for _, c := range checks {
		ids = append(ids, c.id)
	}
	return ids
}
