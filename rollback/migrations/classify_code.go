package migrations

// noop reports whether a value is one of Django's that do nothing.
func noop(v value, of string) bool {
	r, is := v.(ref)
	if !is {
		return false
	}
	for _, m := range coreModules {
		if string(r) == m+of+".noop" {
			return true
		}
	}
	return false
}

func judgeRunPython(_ *env, o Operation) verdict {
	if noop(o.args["code"], "RunPython") {
		return safe(noopRun)
	}
	return verdict{false, "what its code does is not known"}
}

func judgeRunSQL(_ *env, o Operation) verdict {
	if noSQL(o.args["sql"]) {
		return safe(noopRun)
	}
	return verdict{false, "what its SQL does is not known"}
}

func noSQL(v value) bool {
	if l, is := v.([]value); is {
		return len(l) == 0
	}
	return v == "" || noop(v, "RunSQL")
}
