package identity

import (
	"encoding/binary"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// sweepTallies is how many rows that have lapsed one entry takes away. One entry adds fewer.
const sweptTallies = 16

// standingRow is what is known of a network.
type standingRow struct {
	Last chain.Time `json:"last"` // when somebody logged in from it
}

func getTally(s reader, key []byte) (t tally, err error) {
	_, err = get(s, bucketFailures, key, &t)
	return t, err
}

// putTally stores a tally, and when it lapses.
func putTally(s *ledger.State, key []byte, t tally) error {
	if err := dropTally(s, key); err != nil {
		return err
	}
	s.Put(bucketLapses, lapseKey(t.expires(), bucketFailures, key), nil)
	return put(s, bucketFailures, key, t)
}

// dropTally removes a tally, if it is there.
func dropTally(s *ledger.State, key []byte) error {
	var old tally
	ok, err := get(s, bucketFailures, key, &old)
	if err == nil && ok {
		s.Delete(bucketLapses, lapseKey(old.expires(), bucketFailures, key))
		s.Delete(bucketFailures, key)
	}
	return err
}

// dropTallies removes all tallies whose key begins with a prefix.
func dropTallies(s *ledger.State, prefix []byte) (failed error) {
	var keys [][]byte
	s.Prefix(bucketFailures, prefix, func(k, _ []byte) bool {
		keys = append(keys, k)
		return true
	})
	for _, k := range keys {
		if err := dropTally(s, k); err != nil {
			return err
		}
	}
	return nil
}

// putStanding notes that somebody has logged in from a network.
func putStanding(s *ledger.State, place string, now chain.Time) error {
	var old standingRow
	ok, err := get(s, bucketPlaces, []byte(place), &old)
	if err != nil {
		return err
	}
	if ok {
		s.Delete(bucketLapses, lapseKey(old.Last.Add(standingFor), bucketPlaces, []byte(place)))
	}
	s.Put(bucketLapses, lapseKey(now.Add(standingFor), bucketPlaces, []byte(place)), nil)
	return put(s, bucketPlaces, []byte(place), standingRow{Last: now})
}

// lapseKey orders rows by when they lapse.
func lapseKey(t chain.Time, bucket string, key []byte) []byte {
	k := append(binary.BigEndian.AppendUint64(nil, uint64(max(t.UnixMilli(), 0))), bucket...)
	return append(append(k, 0), key...)
}

// sweepLapsed takes rows away that mean nothing any more: names that are nobody's leave nothing for ever.
func sweepLapsed(s *ledger.State, now chain.Time) {
	type lapsed struct {
		at     []byte
		bucket string
		key    []byte
	}
	var rows []lapsed
	s.Ascend(bucketLapses, nil, func(k, _ []byte) bool {
		if len(rows) == sweptTallies || len(k) < 9 || binary.BigEndian.Uint64(k) > uint64(max(now.UnixMilli(), 0)) {
			return false
		}
		for i := 8; i < len(k); i++ {
			if k[i] == 0 {
				rows = append(rows, lapsed{k, string(k[8:i]), k[i+1:]})
				break
			}
		}
		return true
	})
	for _, r := range rows {
		s.Delete(bucketLapses, r.at)
		s.Delete(r.bucket, r.key)
	}
}

func applyFailed(s *ledger.State, e chain.Entry) error {
	body, err := readBody[authenticationFailed](e)
	if err != nil {
		return err
	}
	for _, c := range body.counters(e.Actor.Session) {
		t, err := getTally(s, c.key())
		if err == nil {
			err = putTally(s, c.key(), t.fail(e.Time, leaks[c.kind]))
		}
		if err != nil {
			return err
		}
	}
	sweepLapsed(s, e.Time)
	return nil
}

// locks lists the counters that signer.locked locks.
func (b signerLocked) locks() []counter {
	switch b.Scope {
	case countCertificate:
		return []counter{{kind: b.Scope, of: b.ID, at: b.Certificate}}
	case countSession: // who has taken it over shall not go on at the door
		return []counter{{kind: b.Scope, of: b.Counter, at: b.Session}, {kind: countPlace, of: b.Counter, at: b.Place}}
	case countPlace, countCode:
		return []counter{{kind: b.Scope, of: b.Counter, at: b.Place}}
	}
	return []counter{{kind: b.Scope, of: b.Counter}}
}

func applyLocked(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerLocked](e)
	if err != nil {
		return err
	}
	for _, c := range body.locks() {
		if err := lockTally(s, c.key(), e.Time, body.Until); err != nil {
			return err
		}
	}
	if body.Counter != "" {
		if err := showLock(s, body.Counter, e.Time, body.Until); err != nil {
			return err
		}
	}
	return countAlert(s, alertsOf(body.Scope, body.ID), e.Time)
}

// showLock notes until when a name is locked anywhere.
func showLock(s *ledger.State, name string, now, until chain.Time) error {
	key := counter{kind: shownLock, of: name}.key()
	t, err := getTally(s, key)
	if err != nil || !t.Until.Before(until) {
		return err
	}
	return putTally(s, key, tally{Last: now, Until: until})
}

func applySourceLocked(s *ledger.State, e chain.Entry) error {
	body, err := readBody[sourceLocked](e)
	if err != nil {
		return err
	}
	if err := lockTally(s, counter{kind: body.Scope, at: body.Place}.key(), e.Time, body.Until); err != nil {
		return err
	}
	return countAlert(s, alertsOf(body.Scope, ""), e.Time)
}

func lockTally(s *ledger.State, key []byte, now, until chain.Time) error {
	t, err := getTally(s, key)
	if err != nil {
		return err
	}
	return putTally(s, key, t.lock(now, until))
}

// countAlert counts a lock against the alerts that are raised about its like.
func countAlert(s *ledger.State, c counter, now chain.Time) error {
	t, err := getTally(s, c.key())
	if err != nil {
		return err
	}
	if t.at(now, leaks[countAlerts]).Count < mostAlerts {
		t = t.fail(now, leaks[countAlerts])
	}
	return putTally(s, c.key(), t)
}

func applyUnlocked(s *ledger.State, e chain.Entry) error {
	body, err := readBody[signerUnlocked](e)
	if err != nil || body.Counter == "" {
		return err
	}
	return dropTallies(s, ofName(body.Counter))
}

// clearFailures forgets the failures of a session in which somebody has just proved themselves. What is done under their name elsewhere
// goes on counting.
func clearFailures(s *ledger.State, actor chain.Actor) error {
	row, ok, err := getSigner(s, actor.ID)
	if err != nil || !ok || row.Login == "" || actor.Session == "" {
		return err
	}
	return dropTally(s, counter{kind: countSession, of: row.Login, at: actor.Session}.key())
}

// clearKnock forgets the failures of a name at the network from which somebody has just logged in under it.
func clearKnock(s *ledger.State, id, place string, now chain.Time) error {
	row, ok, err := getSigner(s, id)
	if err != nil || !ok || row.Login == "" {
		return err
	}
	for _, c := range []counter{{kind: countPlace, of: row.Login, at: place}, {kind: countKnown, of: row.Login}} {
		if err := dropTally(s, c.key()); err != nil {
			return err
		}
	}
	if place == "" {
		return nil
	}
	return putStanding(s, place, now)
}

// dropSessionTally forgets the failures of a session that is over.
func dropSessionTally(s *ledger.State, signer, session string) error {
	row, ok, err := getSigner(s, signer)
	if err != nil || !ok || row.Login == "" {
		return err
	}
	return dropTally(s, counter{kind: countSession, of: row.Login, at: session}.key())
}
