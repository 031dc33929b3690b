// EdgeUnetSegmenter(contentsOf: url)(frame) -> mask on Core ML. iOS 17 or macOS 14.
// Not compiled by the project.

import CoreML
import CoreVideo
import Foundation

public enum EdgeUnetError: Error {
    case noPixelBuffer
    case unexpectedPixelFormat
    case noOutput(String)
}

public final class EdgeUnetSegmenter {
    private let model: MLModel

    /// `url` is the compiled model (.mlmodelc): Xcode compiles a package that is part of an app; elsewhere
    /// MLModel.compileModel(at:). INT8 is fastest on the Neural Engine.
    public init(contentsOf url: URL, computeUnits: MLComputeUnits = .cpuAndNeuralEngine) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        model = try MLModel(contentsOf: url, configuration: configuration)
    }

    /// A frame in the model's colour order, any size -> class ids of the frame's size.
    public func callAsFunction(_ frame: EdgeUnetFrame) throws -> EdgeUnetFrame {
        let image = MLFeatureValue(pixelBuffer: try Self.pixelBuffer(of: frame.resized()))
        let input = try MLDictionaryFeatureProvider(dictionary: [EdgeUnetModel.inputName: image])
        let output = try model.prediction(from: input)
        guard let logits = output.featureValue(for: EdgeUnetModel.outputName)?.multiArrayValue else {
            throw EdgeUnetError.noOutput(EdgeUnetModel.outputName)
        }
        return Self.mask(of: logits).restored(toHeight: frame.height, toWidth: frame.width)
    }

    /// A camera frame (kCVPixelFormatType_32BGRA) in the model's colour order.
    public static func frame(of buffer: CVPixelBuffer) throws -> EdgeUnetFrame {
        guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_32BGRA else {
            throw EdgeUnetError.unexpectedPixelFormat
        }
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw EdgeUnetError.noPixelBuffer }
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        let line = CVPixelBufferGetBytesPerRow(buffer)
        var frame = EdgeUnetFrame(
            height: CVPixelBufferGetHeight(buffer), width: CVPixelBufferGetWidth(buffer),
            channels: EdgeUnetModel.channels)
        for y in 0..<frame.height {
            for x in 0..<frame.width {
                let from = y * line + 4 * x
                let (blue, green, red) = (Int(bytes[from]), Int(bytes[from + 1]), Int(bytes[from + 2]))
                let to = (y * frame.width + x) * frame.channels
                switch EdgeUnetModel.colorOrder {
                case "GRAY":
                    frame.pixels[to] = UInt8((red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15)
                default:
                    let rgb = EdgeUnetModel.colorOrder == "RGB"
                    frame.pixels[to] = UInt8(rgb ? red : blue)
                    frame.pixels[to + 1] = UInt8(green)
                    frame.pixels[to + 2] = UInt8(rgb ? blue : red)
                }
            }
        }
        return frame
    }

    /// What the package takes: an image of the input's size. Core ML orders its colours itself.
    private static func pixelBuffer(of frame: EdgeUnetFrame) throws -> CVPixelBuffer {
        let gray = EdgeUnetModel.colorOrder == "GRAY"
        let format = gray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
        var made: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, frame.width, frame.height, format, nil, &made)
        guard let buffer = made else { throw EdgeUnetError.noPixelBuffer }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw EdgeUnetError.noPixelBuffer }
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        let line = CVPixelBufferGetBytesPerRow(buffer)
        let rgb = EdgeUnetModel.colorOrder == "RGB"
        for y in 0..<frame.height {
            for x in 0..<frame.width {
                let from = (y * frame.width + x) * frame.channels
                if gray {
                    bytes[y * line + x] = frame.pixels[from]
                    continue
                }
                let to = y * line + 4 * x
                bytes[to] = frame.pixels[rgb ? from + 2 : from]
                bytes[to + 1] = frame.pixels[from + 1]
                bytes[to + 2] = frame.pixels[rgb ? from : from + 2]
                bytes[to + 3] = 255
            }
        }
        return buffer
    }

    /// (1, C, H, W) float32 logits -> class ids: logit > 0 for one channel, else the first of the largest.
    private static func mask(of logits: MLMultiArray) -> EdgeUnetFrame {
        let strides = logits.strides.map { $0.intValue }
        var mask = EdgeUnetFrame(
            height: EdgeUnetModel.outputHeight, width: EdgeUnetModel.outputWidth, channels: 1)
        logits.withUnsafeBufferPointer(ofType: Float.self) { values in
            for y in 0..<mask.height {
                for x in 0..<mask.width {
                    var best = 0
                    var most = -Float.infinity
                    for c in 0..<EdgeUnetModel.outputChannels {
                        let value = values[c * strides[1] + y * strides[2] + x * strides[3]]
                        if value > most {
                            (best, most) = (c, value)
                        }
                    }
                    let one = EdgeUnetModel.outputChannels == 1
                    mask.pixels[y * mask.width + x] = one ? (most > 0 ? 1 : 0) : UInt8(best)
                }
            }
        }
        return mask
    }
}
