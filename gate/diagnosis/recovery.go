package diagnosis

// Recovery is what keeps a deploy that a power cut interrupts from being put right at the next boot.
type Recovery struct {
	Problem string // "" if nothing is known
	Fix     string
}

func noRecovery(f *Facts) []*match {
	if f.Recovery.Problem == "" {
		return nil
	}
	return []*match{newMatch("problem", f.Recovery.Problem, "fix", f.Recovery.Fix)}
}
