// Frame -> network input size, and mask -> frame size, with the arithmetic of edge_unet (OpenCV's): plain Swift.
// Not compiled by the project.

/// (height, width, channels) bytes, row by row. A mask has one channel: class ids.
public struct EdgeUnetFrame {
    public let height: Int
    public let width: Int
    public let channels: Int
    public var pixels: [UInt8]

    public init(height: Int, width: Int, channels: Int, pixels: [UInt8]) {
        precondition(height > 0 && width > 0 && pixels.count == height * width * channels)
        self.height = height
        self.width = width
        self.channels = channels
        self.pixels = pixels
    }

    public init(height: Int, width: Int, channels: Int, filledWith value: UInt8 = 0) {
        let bytes = [UInt8](repeating: value, count: height * width * channels)
        self.init(height: height, width: width, channels: channels, pixels: bytes)
    }

    /// This frame at the input's size: area averaging when both sides shrink, else bilinear in fixed point.
    public func resized() -> EdgeUnetFrame {
        precondition(channels == EdgeUnetModel.channels)
        let inner = Inner(height: height, width: width)
        var scaled = self
        if inner.height < height && inner.width < width {
            scaled = shrunk(toHeight: inner.height, toWidth: inner.width)
        } else if inner.height != height || inner.width != width {
            scaled = interpolated(toHeight: inner.height, toWidth: inner.width)
        }
        var canvas = EdgeUnetFrame(
            height: EdgeUnetModel.height, width: EdgeUnetModel.width, channels: channels,
            filledWith: EdgeUnetModel.padValue)
        for y in 0..<inner.height {
            for x in 0..<(inner.width * channels) {
                let to = ((inner.top + y) * canvas.width + inner.left) * channels + x
                canvas.pixels[to] = scaled.pixels[y * inner.width * channels + x]
            }
        }
        return canvas
    }

    /// This mask, which has the input's size, at a frame's size; letterbox bars are cut.
    public func restored(toHeight: Int, toWidth: Int) -> EdgeUnetFrame {
        let inner = Inner(height: toHeight, width: toWidth)
        let rows = Self.nearest(from: inner.height, to: toHeight)
        let columns = Self.nearest(from: inner.width, to: toWidth)
        var made = EdgeUnetFrame(height: toHeight, width: toWidth, channels: 1)
        for y in 0..<toHeight {
            let line = (inner.top + rows[y]) * width + inner.left
            for x in 0..<toWidth {
                made.pixels[y * toWidth + x] = pixels[line + columns[x]]
            }
        }
        return made
    }

    private func shrunk(toHeight: Int, toWidth: Int) -> EdgeUnetFrame {
        let byY = Self.wholeStep(from: height, to: toHeight)
        let byX = Self.wholeStep(from: width, to: toWidth)
        if byY > 0 && byX > 0 {
            return shrunkByWhole(toHeight: toHeight, toWidth: toWidth, byY: byY, byX: byX)
        }
        var made = EdgeUnetFrame(height: toHeight, width: toWidth, channels: channels)
        let columns = Self.areaTaps(from: width, to: toWidth)
        let rows = Self.areaTaps(from: height, to: toHeight)
        var sum = [Float](repeating: 0, count: toWidth * channels)
        for (j, row) in rows.enumerated() {
            var line = [Float](repeating: 0, count: toWidth * channels)
            for tap in columns {
                for c in 0..<channels {
                    let value = Float(pixels[(row.from * width + tap.from) * channels + c])
                    let part = value * tap.share
                    line[tap.to * channels + c] += part
                }
            }
            let starts = j == 0 || rows[j - 1].to != row.to
            for x in 0..<sum.count {
                let part = row.share * line[x]
                sum[x] = starts ? part : sum[x] + part
            }
            if j + 1 == rows.count || rows[j + 1].to != row.to {
                for x in 0..<sum.count {
                    made.pixels[row.to * sum.count + x] = Self.toByte(sum[x])
                }
            }
        }
        return made
    }

    private func shrunkByWhole(toHeight: Int, toWidth: Int, byY: Int, byX: Int) -> EdgeUnetFrame {
        var made = EdgeUnetFrame(height: toHeight, width: toWidth, channels: channels)
        let share = Float(1) / Float(byY * byX)
        for y in 0..<toHeight {
            for x in 0..<toWidth {
                for c in 0..<channels {
                    var sum = 0
                    for dy in 0..<byY {
                        for dx in 0..<byX {
                            sum += Int(pixels[((y * byY + dy) * width + x * byX + dx) * channels + c])
                        }
                    }
                    let two = byY == 2 && byX == 2
                    let value = two ? UInt8((sum + 2) >> 2) : Self.toByte(Float(sum) * share)
                    made.pixels[(y * toWidth + x) * channels + c] = value
                }
            }
        }
        return made
    }

    private func interpolated(toHeight: Int, toWidth: Int) -> EdgeUnetFrame {
        var made = EdgeUnetFrame(height: toHeight, width: toWidth, channels: channels)
        let columns = (0..<toWidth).map { Self.pair(at: $0, from: width, to: toWidth, holdBorder: true) }
        for y in 0..<toHeight {
            let row = Self.pair(at: y, from: height, to: toHeight, holdBorder: false)
            for x in 0..<toWidth {
                for c in 0..<channels {
                    let upper = (row.firstWeight * (between(row.first, columns[x], c) >> 4)) >> 16
                    let lower = (row.secondWeight * (between(row.second, columns[x], c) >> 4)) >> 16
                    made.pixels[(y * toWidth + x) * channels + c] = UInt8((upper + lower + 2) >> 2)
                }
            }
        }
        return made
    }

    private func between(_ y: Int, _ pair: Pair, _ c: Int) -> Int {
        let first = Int(pixels[(y * width + pair.first) * channels + c])
        let second = Int(pixels[(y * width + pair.second) * channels + c])
        return first * pair.firstWeight + second * pair.secondWeight
    }

    /// Where a frame lands in the input.
    private struct Inner {
        let top: Int
        let left: Int
        let height: Int
        let width: Int

        init(height: Int, width: Int) {
            if EdgeUnetModel.resize == "stretch" {
                (top, left, self.height, self.width) = (0, 0, EdgeUnetModel.height, EdgeUnetModel.width)
                return
            }
            let ratio = min(
                Double(EdgeUnetModel.height) / Double(height), Double(EdgeUnetModel.width) / Double(width))
            self.height = max(1, Int((Double(height) * ratio).rounded(.toNearestOrEven)))
            self.width = max(1, Int((Double(width) * ratio).rounded(.toNearestOrEven)))
            top = (EdgeUnetModel.height - self.height) / 2
            left = (EdgeUnetModel.width - self.width) / 2
        }
    }

    /// One source pixel's share of one target pixel.
    private struct Tap {
        let to: Int
        let from: Int
        let share: Float
    }

    /// Two neighbours and their weights in 1/2048.
    private struct Pair {
        let first: Int
        let second: Int
        let firstWeight: Int
        let secondWeight: Int
    }

    private static func toByte(_ value: Float) -> UInt8 {
        return UInt8(min(max(value.rounded(.toNearestOrEven), 0), 255))
    }

    private static func scale(from: Int, to: Int) -> Double {
        return 1.0 / (Double(to) / Double(from))
    }

    /// The step where it is a whole number, else 0.
    private static func wholeStep(from: Int, to: Int) -> Int {
        let step = scale(from: from, to: to)
        let whole = step.rounded(.toNearestOrEven)
        return abs(step - whole) < Double.ulpOfOne ? Int(whole) : 0
    }

    private static func areaTaps(from: Int, to: Int) -> [Tap] {
        let step = scale(from: from, to: to)
        var taps: [Tap] = []
        for target in 0..<to {
            let begin = Double(target) * step
            let end = begin + step
            let cell = min(step, Double(from) - begin)
            let last = min(Int(end.rounded(.down)), from - 1)
            let first = min(Int(begin.rounded(.up)), last)
            if Double(first) - begin > 1e-3 {
                taps.append(Tap(to: target, from: first - 1, share: Float((Double(first) - begin) / cell)))
            }
            for source in first..<last {
                taps.append(Tap(to: target, from: source, share: Float(1.0 / cell)))
            }
            if end - Double(last) > 1e-3 {
                let part = min(min(end - Double(last), 1.0), cell) / cell
                taps.append(Tap(to: target, from: last, share: Float(part)))
            }
        }
        return taps
    }

    private static func pair(at target: Int, from: Int, to: Int, holdBorder: Bool) -> Pair {
        let place = Float((Double(target) + 0.5) * scale(from: from, to: to) - 0.5)
        let first = Int(place.rounded(.down))
        let held = holdBorder && (first < 0 || first >= from - 1)
        let part = held ? Float(0) : place - Float(first)
        return Pair(
            first: min(max(first, 0), from - 1), second: min(max(first + 1, 0), from - 1),
            firstWeight: Int(((1 - part) * 2048).rounded(.toNearestOrEven)),
            secondWeight: Int((part * 2048).rounded(.toNearestOrEven)))
    }

    /// The source index of every target index: half a step, then step by step.
    private static func nearest(from: Int, to: Int) -> [Int] {
        let step = Double(from) / Double(to)
        var place = step * 0.5
        return (0..<to).map { _ in
            let index = min(Int(place.rounded(.down)), from - 1)
            place += step
            return index
        }
    }
}
