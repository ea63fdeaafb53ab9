package main

import (
	"fmt"
	"slices"
	"strings"
)

// figuresPage is what docs/performance.md says in numbers: the kept figures of each
// version, and all of the newest.
func figuresPage(all []keptVersion) string {
	var page strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&page, "| %s |\n", strings.Join(cells, " | ")) }

	head, rule := []string{"hotinit"}, []string{"---"}
	for _, v := range all {
		head, rule = append(head, v.name), append(rule, "---")
	}
	row(head...)
	row(rule...)
	for _, k := range keptFigures {
		cells, some := []string{k.label}, false
		for _, v := range all {
			value, ok := v.value(k)
			cell := "–"
			if ok {
				cell, some = fmt.Sprintf(k.format, value), true
			}
			cells = append(cells, cell)
		}
		if some {
			row(cells...)
		}
	}

	newest := all[len(all)-1]
	fmt.Fprintf(&page, "\nAll of %s, on %s: the median of the runs, and the lowest to the highest.\n", newest.name, newest.Machine)
	if newest.Quick {
		page.WriteString("That was a quick run.\n")
	}
	for _, report := range newest.Reports {
		fmt.Fprintf(&page, "\n### %s\n\n", heading(report.About))
		for _, tools := range toolSets(report) {
			row(append([]string{""}, tools...)...)
			row(slices.Repeat([]string{"---"}, len(tools)+1)...)
			for _, q := range report.Figures {
				if !slices.Equal(q.Tools, tools) {
					continue
				}
				cells := []string{q.Name}
				for _, tool := range tools {
					cells = append(cells, rangeOf(q, tool))
				}
				row(cells...)
			}
			page.WriteString("\n")
		}
		for _, note := range report.Notes {
			fmt.Fprintf(&page, "- %s\n", note)
		}
	}
	return page.String()
}

func heading(about string) string { return strings.ToUpper(about[:1]) + about[1:] }

// toolSets are the sets of tools that the figures of a report have: each is a table.
func toolSets(report found) [][]string {
	var sets [][]string
	for _, q := range report.Figures {
		if !slices.ContainsFunc(sets, func(s []string) bool { return slices.Equal(s, q.Tools) }) {
			sets = append(sets, q.Tools)
		}
	}
	return sets
}

// rangeOf is the median of a tool's values, and the lowest to the highest where
// these differ.
func rangeOf(q quantity, tool string) string {
	values := q.Values[tool]
	if len(values) == 0 {
		return "–"
	}
	number := q.Format
	unit := ""
	if verb, rest, ok := strings.Cut(q.Format, " "); ok {
		number, unit = verb, " "+rest
	}
	middle := fmt.Sprintf(number, median(values))
	low, high := fmt.Sprintf(number, slices.Min(values)), fmt.Sprintf(number, slices.Max(values))
	if low == high {
		return middle + unit
	}
	return fmt.Sprintf("%s%s (%s to %s)", middle, unit, low, high)
}
