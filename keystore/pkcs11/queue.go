package pkcs11

import "sync"

// A queue hands signatures to workers in the order in which they came. One that finds a worker idle is handed over at once. A
// signature whose caller has left makes room for another.
type queue struct {
	mu          sync.Mutex
	first, last *signJob
	length      int
	limit       int
	idle        []*worker // the one that worked last comes last: its memory is still warm
}

// put hands a job to a worker or lets it wait. It reports whether there was room, and whether it waits.
func (q *queue) put(j *signJob) (room, waits bool) {
	q.mu.Lock()
	if w := q.popIdle(); w != nil {
		q.mu.Unlock()
		w.next <- j // has room: an idle worker has none
		return true, false
	}
	defer q.mu.Unlock()
	if q.length >= q.limit {
		return false, false
	}
	q.length++
	j.queued = true
	if q.last == nil {
		q.first, q.last = j, j
	} else {
		j.before, q.last.after = q.last, j
		q.last = j
	}
	return true, true
}

// giveBack lets a job wait as the first, or hands it to an idle worker.
func (q *queue) giveBack(j *signJob) {
	q.mu.Lock()
	if w := q.popIdle(); w != nil {
		q.mu.Unlock()
		w.next <- j
		return
	}
	defer q.mu.Unlock()
	q.length++
	j.queued = true
	if j.after = q.first; j.after == nil {
		q.last = j
	} else {
		j.after.before = j
	}
	q.first = j
}

func (q *queue) popIdle() *worker {
	n := len(q.idle)
	if n == 0 {
		return nil
	}
	w := q.idle[n-1]
	q.idle = q.idle[:n-1]
	return w
}

// take returns the job that has waited longest, or notes that the worker is idle: then the next comes through its channel.
func (q *queue) take(w *worker) *signJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.first
	if j == nil {
		q.idle = append(q.idle, w)
		return nil
	}
	q.unlink(j)
	return j
}

// remove takes a job out that still waits.
func (q *queue) remove(j *signJob) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !j.queued {
		return false
	}
	q.unlink(j)
	return true
}

// drain takes out all jobs that wait.
func (q *queue) drain() []*signJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []*signJob
	for q.first != nil {
		all = append(all, q.first)
		q.unlink(q.first)
	}
	return all
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length
}

func (q *queue) unlink(j *signJob) {
	if j.before == nil {
		q.first = j.after
	} else {
		j.before.after = j.after
	}
	if j.after == nil {
		q.last = j.before
	} else {
		j.after.before = j.before
	}
	j.before, j.after, j.queued = nil, nil, false
	q.length--
}
