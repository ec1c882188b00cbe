package main

import (
	"context"
	"io"
)

type overheads struct{}

func measureOverheads(ctx context.Context, o options) (*overheads, error) { return &overheads{}, nil }
func (o *overheads) limits() []limit                                      { return nil }
func (o *overheads) print(w io.Writer)                                    {}
