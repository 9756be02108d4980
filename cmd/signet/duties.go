package main

import (
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// dutyFlags are the flags that say who had which part in what is signed.
type dutyFlags map[string]dutyFlag

type dutyFlag struct {
	kind signetv1.DutyKind
	does string
	who  *[]string
}

func newDutyFlags() dutyFlags {
	return dutyFlags{
		"author":            {signetv1.DutyKind_DUTY_KIND_AUTHOR, "somebody who wrote the change", new([]string)},
		"committer":         {signetv1.DutyKind_DUTY_KIND_COMMITTER, "somebody who committed it", new([]string)},
		"builder":           {signetv1.DutyKind_DUTY_KIND_BUILDER, "somebody who built the software", new([]string)},
		"evidence-producer": {signetv1.DutyKind_DUTY_KIND_EVIDENCE_PRODUCER, "somebody who made the evidence", new([]string)},
	}
}

func (d dutyFlags) duties() []*signetv1.Duty {
	var out []*signetv1.Duty
	for _, name := range sorted(d) {
		for _, who := range *d[name].who {
			out = append(out, &signetv1.Duty{Kind: d[name].kind, Person: who})
		}
	}
	return out
}
