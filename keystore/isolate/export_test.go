package isolate

// Pids returns the numbers of the processes that are up.
func (t *Token) Pids() (pids []int) {
	for _, p := range *t.processes.Load() {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return pids
}
