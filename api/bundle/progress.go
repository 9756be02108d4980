package bundle

import "sync"

// Progress is how far reading has come.
type Progress struct {
	// Files is how many files are done, TotalFiles how many there are; 0: not known (in a tar).
	Files, TotalFiles int64
	// Bytes is how much is read, TotalBytes how much there is to read: of content, or, in a tar, of the archive's own
	// bytes.
	Bytes, TotalBytes int64
}

// meter adds up progress and tells it at every hundredth of the files, or every 8 MiB.
type meter struct {
	mu   sync.Mutex
	now  Progress
	told int64
	fn   func(Progress)
}

func newMeter(fn func(Progress), files, bytes int64) *meter {
	return &meter{fn: fn, now: Progress{TotalFiles: files, TotalBytes: bytes}}
}

func (m *meter) add(files, bytes int64) {
	if m.fn == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Files += files
	m.now.Bytes += bytes
	if m.now.Bytes-m.told >= 8<<20 || files > 0 && m.now.Files%max(1, m.now.TotalFiles/100) == 0 {
		m.told = m.now.Bytes
		m.fn(m.now)
	}
}

// done tells the end.
func (m *meter) done() {
	if m.fn == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fn(m.now)
}
