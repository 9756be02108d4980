package isolate

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// What a worker's standard error may bring into the log.
const (
	maxLine    = 1024
	lineBurst  = 200
	linePeriod = 100 * time.Millisecond // one more line in each
)

// A lineLog puts what a worker process writes to its standard error into the log, line by line, as much as is bearable.
type lineLog struct {
	log    *slog.Logger
	redact func(string) string

	mu      sync.Mutex
	line    []byte
	cut     bool
	credit  time.Time // when the present credit began: a line costs linePeriod
	dropped int
}

// of says which process it is, which may be writing already.
func (l *lineLog) of(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = l.log.With("pid", pid)
}

// Write implements [io.Writer].
func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := maxLine - len(l.line); len(part) > room {
			part, l.cut = part[:room], true
		}
		l.line = append(l.line, part...)
		if i < 0 {
			break
		}
		l.emit()
		p = p[i+1:]
	}
	return n, nil
}

// end logs what came last, without a line's end.
func (l *lineLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 {
		l.emit()
	}
	if l.dropped > 0 {
		l.log.Warn("more lines of the worker process were left out", "lines", l.dropped)
	}
}

func (l *lineLog) emit() {
	text := l.redact(bounded(string(l.line), maxLine))
	if l.cut {
		text += "…"
	}
	l.line, l.cut = l.line[:0], false
	if text == "" {
		return
	}
	now := time.Now()
	if earliest := now.Add(-lineBurst * linePeriod); l.credit.Before(earliest) {
		l.credit = earliest
	}
	if l.credit.After(now) {
		l.dropped++
		return
	}
	l.credit = l.credit.Add(linePeriod)
	if l.dropped > 0 {
		l.log.Warn("lines of the worker process were left out", "lines", l.dropped)
		l.dropped = 0
	}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "worker process says", slog.String("line", text))
}
