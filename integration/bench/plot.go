package main

// plot.go owns the picture: the CPU ratio of every variant at every operation, its quartiles, and the gates.

import (
	"bytes"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that are told apart by those who see fewer of them (Okabe and Ito), in the order in which variants first appear.
var colours = []color.Color{
	color.RGBA{0x99, 0x99, 0x99, 0xff}, color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff},
}

// legend is the room above the operations, in lines of theirs.
const legend = 2.5

// series is one variant's points with their quartiles.
type series struct {
	plotter.XYs
	plotter.XErrors
}

// plot draws the operations that have a CPU ratio as lines from top to bottom, each with its variants one below the other.
func (r Report) plot() ([]byte, error) {
	var drawn []Result
	for _, result := range r.Results {
		if result.Control && !result.Void {
			drawn = append(drawn, result)
		}
	}
	p := plot.New()
	p.Title.Text = "CPU time of the client, ratio to plain GORM in the same round\n(median and quartiles; a red bar is a gate; in FIPS mode the base is the default mode)"
	// Twice as much is as far from the base as half.
	p.X.Scale, p.X.Min, p.X.Max = plot.LogScale{}, 0.5, 2
	p.Legend.Top = true

	var names []string
	points, ticks, gates := map[string]*series{}, []plot.Tick{}, plotter.XYs{}
	for i, result := range drawn {
		y := float64(len(drawn) - i)
		ticks = append(ticks, plot.Tick{Value: y, Label: result.Title})
		// The base is the line at 1.
		for j, row := range result.Rows[1:] {
			s := points[row.Variant]
			if s == nil {
				s = &series{}
				points[row.Variant] = s
				names = append(names, row.Variant)
			}
			p.X.Min, p.X.Max = min(p.X.Min, max(row.CPU.Q1, 0.1)), max(p.X.Max, row.CPU.Q3)
			s.XYs = append(s.XYs, plotter.XY{X: row.CPU.Median, Y: y + 0.3 - 0.6*float64(j)/float64(max(1, len(result.Rows)-2))})
			s.XErrors = append(s.XErrors, struct{ Low, High float64 }{row.CPU.Median - row.CPU.Q1, row.CPU.Q3 - row.CPU.Median})
			for _, v := range result.Verdicts {
				if v.Variant == row.Variant && v.Value == row.CPU {
					gates = append(gates, plotter.XY{X: v.Limit, Y: y})
				}
			}
		}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
	var scale []plot.Tick
	for x := 0.125; x <= 128; x *= 2 {
		scale = append(scale, plot.Tick{Value: x, Label: fmt.Sprint(x)})
	}
	p.X.Tick.Marker = plot.ConstantTicks(scale)
	bottom, top := 0.4, float64(len(drawn))+0.6
	p.Y.Min, p.Y.Max = bottom, top+legend
	grid := plotter.NewGrid()
	grid.Horizontal.Color = nil
	p.Add(grid)
	if len(drawn) > 0 {
		base, err := plotter.NewLine(plotter.XYs{{X: 1, Y: bottom}, {X: 1, Y: top}})
		if err != nil {
			return nil, err
		}
		p.Add(base)
	}
	if len(gates) > 0 {
		bars, err := plotter.NewScatter(gates)
		if err != nil {
			return nil, err
		}
		bars.GlyphStyle = draw.GlyphStyle{Color: color.RGBA{0xcc, 0, 0, 0xff}, Radius: vg.Points(12), Shape: bar{}}
		p.Add(bars)
		p.Legend.Add("gate", bars)
	}
	for i, name := range names {
		s := points[name]
		dots, err := plotter.NewScatter(s.XYs)
		if err != nil {
			return nil, err
		}
		colour := colours[i%len(colours)]
		dots.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
		spread, err := plotter.NewXErrorBars(s)
		if err != nil {
			return nil, err
		}
		spread.Color = colour
		p.Add(spread, dots)
		p.Legend.Add(name, dots)
	}
	for _, style := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		style.Variant = "Sans"
	}
	canvas := vgsvg.New(26*vg.Centimeter, vg.Length(4+1.3*(legend+float64(len(drawn))))*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	// Liberation Sans is as wide as these, which others have; text is placed by its width.
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// bar is an upright line.
type bar struct{}

// DrawGlyph is part of draw.GlyphDrawer.
func (bar) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.StrokeLine2(draw.LineStyle{Color: s.Color, Width: vg.Points(2)}, at.X, at.Y-s.Radius, at.X, at.Y+s.Radius)
}
