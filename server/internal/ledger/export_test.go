package ledger

import bolt "go.etcd.io/bbolt"

// SetCommit makes the sequencer of a ledger that runs no commands commit through fn.
func (l *Ledger) SetCommit(fn func(tx *bolt.Tx) error) { l.commit = fn }
