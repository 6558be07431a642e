package cli

import (
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"mosix/internal/sim"
)

// colours of the lines, for eight runs; Okabe and Ito's, which colour-blind people tell apart.
var colours = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0xf0, 0xe4, 0x42, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff},
}

// plotPoints is how many points of a line are drawn at most.
const plotPoints = 1000

// plotSim draws two pictures above one another: the highest load of a node over time, and the share of the jobs whose slowdown is above a number.
func plotSim(path string, results []sim.Result, stories []sim.Story) error {
	format := strings.TrimPrefix(filepath.Ext(path), ".")
	if !slices.Contains([]string{"svg", "png", "pdf"}, format) {
		return fmt.Errorf("a file of kind %q cannot be drawn: want .svg, .png or .pdf", format)
	}
	loads, slow := plot.New(), plot.New()
	loads.Title.Text, loads.X.Label.Text, loads.Y.Label.Text = "Load of the busiest node", "seconds", "jobs per unit of capacity"
	slow.Title.Text, slow.X.Label.Text, slow.Y.Label.Text = "Slowdown", "slowdown", "share of the jobs above it"
	slow.X.Scale, slow.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	slow.Y.Min, slow.Y.Max, slow.X.Min, slow.X.Max, loads.Y.Min = 0, 1, 1, 10, 0
	several := slices.ContainsFunc(results, func(r sim.Result) bool { return r.Seed != results[0].Seed })
	for i, s := range stories {
		name := results[i].Policy
		if several {
			name += fmt.Sprintf(" %d", results[i].Seed)
		}
		var load, above plotter.XYs
		each := max(1, len(s.Loads)/plotPoints)
		for k := 0; k < len(s.Loads); k += each {
			most := 0.0
			for _, p := range s.Loads[k:min(k+each, len(s.Loads))] {
				most = max(most, p.Most)
			}
			load = append(load, plotter.XY{X: s.Loads[k].At.Seconds(), Y: most})
		}
		slowdowns := make([]float64, len(s.Ended))
		for k, e := range s.Ended {
			slowdowns[k] = max(1, e.Response/e.Work)
		}
		slices.Sort(slowdowns)
		for k := 0; k < len(slowdowns); k += max(1, len(slowdowns)/plotPoints) {
			above = append(above, plotter.XY{X: slowdowns[k], Y: 1 - float64(k)/float64(len(slowdowns))})
			slow.X.Max = max(slow.X.Max, slowdowns[k])
		}
		if len(load) == 0 || len(above) == 0 {
			continue
		}
		for _, x := range []struct {
			p  *plot.Plot
			at plotter.XYs
		}{{loads, load}, {slow, above}} {
			l, err := plotter.NewLine(x.at)
			if err != nil {
				return err
			}
			l.Color, l.Width = colours[i%len(colours)], vg.Points(1.2)
			x.p.Add(l)
			x.p.Legend.Add(name, l)
		}
	}
	slow.Legend.Top, loads.Legend.Top = true, true
	const width, height = 20 * vg.Centimeter, 24 * vg.Centimeter
	c, err := draw.NewFormattedCanvas(width, height, format)
	if err != nil {
		return err
	}
	all := draw.New(c)
	upper, lower := draw.Crop(all, 0, 0, height/2, 0), draw.Crop(all, 0, 0, 0, -height/2)
	loads.Draw(upper)
	slow.Draw(lower)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.WriterTo(c).WriteTo(f)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}
