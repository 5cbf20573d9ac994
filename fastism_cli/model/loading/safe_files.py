"""Check that a model file is safe: nothing outside of it, nothing without end, no operation that is no arithmetic.

HDF5 is a program's memory on a disk. A damaged file can make the library crash or run for ever, and no thread can stop
it. So a child process reads each file first, with a limit of processor time; what it finds is one line.
"""

from __future__ import annotations

import inspect
import io
import math
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py

from fastism_cli.errors import ModelError
from fastism_cli.genome.input_files import fault_in_file, printable

SECONDS, BYTES_PER_SECOND = 3, 50 << 20  # of processor time: for any file, and for each more bytes of it
SMALL = 64 << 20  # bytes; below this, nobody minds how small it was when packed
MAX_EXPANSION = 100  # times what is stored; weights are hardly ever packed to less than half
WELL_PACKED = 20  # numbers of a byte each, in a byte of the file: few weights can be packed as well
MAX_OBJECTS = 1_000_000
MAX_DEPTH = 100
WEIGHTS = ".h5"
LENGTHS_IN_HEADER = 26  # bytes of a member's header in an archive before the lengths of its name and extra field


def check_hdf5(path: Path) -> None:
    """Raise :class:`ModelError` unless all of an HDF5 file can be read, lies in it, and has the size that it says."""
    _check(path, _read_hdf5)


def check_archive(path: Path) -> None:
    """Raise :class:`ModelError` unless a zip archive and the weights in it are sound."""
    _check(path, _read_archive)


def _check(path: Path, read: Callable[[Path], str]) -> None:
    try:
        fault = fault_in_file(path, read, seconds=SECONDS, bytes_per_second=BYTES_PER_SECOND)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if fault:
        raise ModelError(f"{path}{fault}")


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _read_hdf5(source: Path | IO[bytes] | io.RawIOBase) -> str:
    options: dict[str, Any] = {"locking": False} if isinstance(source, Path) else {}
    try:
        with h5py.File(source, "r", **options) as file:
            return next(_faults(file), "")
    except Exception as error:  # a damaged file can make HDF5 raise anything
        return f" is damaged or incomplete: {printable(' '.join(str(error).split()))}"


def _faults(file: h5py.File) -> Iterator[str]:
    """Read every attribute, link and dataset (but not what lies there in one piece), and say what is wrong."""
    groups, seen = [("", file, 0)], {file.id}
    while groups:
        place, group, depth = groups.pop()
        dict(group.attrs)
        if depth > MAX_DEPTH or len(seen) > MAX_OBJECTS:
            yield f" is damaged: {place} is one of too many groups inside each other"
        for name in group:
            inside = f"{place}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield f": {inside} {_target(link)}, which is not followed"
            found = group[name]
            if isinstance(found, h5py.Group) and found.id not in seen:
                groups.append((inside, found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                dict(found.attrs)
                yield from _faults_of_dataset(inside, found)
            seen.add(found.id)


def _target(link: Any) -> str:
    return "lies in another file" if isinstance(link, h5py.ExternalLink) else "is a link to another place"


def _faults_of_dataset(place: str, dataset: h5py.Dataset) -> Iterator[str]:
    if dataset.external or dataset.is_virtual:
        yield f": {place} lies in another file, which is not followed"
    declared, stored = math.prod(dataset.shape or ()) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > SMALL and declared > MAX_EXPANSION * stored:
        yield f": {place} says that it holds {declared:,} bytes, but the file has {stored:,} for it"
    if dataset.chunks is not None and dataset.size:
        for chunk in dataset.iter_chunks():  # one at a time: together they may be large
            dataset[chunk]


# --- zip archives -----------------------------------------------------------------------------------------------------


def _read_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            fault = next(_faults_of_members(archive.infolist()), "")
            return fault or next(_faults_of_weights(archive), "")
    except Exception as error:  # a damaged archive can make zipfile raise anything
        return f" is damaged or incomplete: {printable(' '.join(str(error).split()))}"


def _faults_of_members(members: list[zipfile.ZipInfo]) -> Iterator[str]:
    names = [member.filename for member in members]
    if len(names) > len(set(names)):
        yield f" holds {next(name for name in names if names.count(name) > 1)} twice, which is not read"
    for member in members:
        if member.filename.startswith(("/", "\\")) or ".." in member.filename.replace("\\", "/").split("/"):
            yield f" holds {member.filename!r}, a path that leads out of the archive"
        if stat.S_ISLNK(member.external_attr >> 16):
            yield f" holds {member.filename}, a link, which is not followed"
        if member.flag_bits & 1:
            yield f" holds {member.filename} encrypted: a model must be saved without a password"
        if member.file_size > SMALL and member.file_size > MAX_EXPANSION * member.compress_size:
            packed = f"{member.compress_size:,} bytes unpack to {member.file_size:,}"
            yield f" holds {member.filename}, whose {packed}, which is not read"


def _faults_of_weights(archive: zipfile.ZipFile) -> Iterator[str]:
    """Read the weights to their end, where their checksum is compared, then as HDF5."""
    for member in archive.infolist():
        if member.filename.endswith(WEIGHTS):
            with archive.open(member) as file:
                while file.read(1 << 20):
                    pass
            if member.compress_type == zipfile.ZIP_STORED:
                with _StoredMember(archive, member) as file:
                    fault = _read_hdf5(file)
            else:
                fault = _read_hdf5(io.BytesIO(archive.read(member)))
            if fault:
                yield f", {member.filename}{fault}"


class _StoredMember(io.RawIOBase):
    """An uncompressed member of an archive as a file of its own.

    ``ZipFile.open`` reads a member again from its start whenever HDF5 goes back in it, which it does for each dataset:
    minutes for a large model.
    """

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self._file = open(str(archive.filename), "rb")
        self._file.seek(member.header_offset + LENGTHS_IN_HEADER)
        lengths = struct.unpack("<HH", self._file.read(4))  # of the member's name, and of what is said beside it
        self._start, self._size, self._at = self._file.tell() + sum(lengths), member.file_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer)[: max(self._size - self._at, 0)]
        self._file.seek(self._start + self._at)
        got = self._file.readinto(wanted)
        self._at += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()


# --- sizes that a configuration asks for ------------------------------------------------------------------------------


@contextmanager
def weights_that_fit(layer_class: Any, path: Path) -> Iterator[None]:
    """Until the block ends, a layer with a weight that the file at ``path`` cannot hold is refused.

    A damaged number of units would otherwise take all memory, as layers make their weights before any is read.
    """
    add_weight, limit = layer_class.add_weight, _numbers_in(path)

    def checked(layer: Any, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(add_weight).bind(layer, *args, **kwargs).arguments
        shape = bound.get("shape") or ()
        if math.prod(int(n or 1) for n in (shape if isinstance(shape, (list, tuple)) else ())) > limit:
            wanted = f"layer '{layer.name}' asks for a weight of shape {tuple(shape)}"
            raise ModelError(f"{path}: {wanted}, which the file is too small for")
        return add_weight(layer, *args, **kwargs)

    layer_class.add_weight = checked
    try:
        yield
    finally:
        layer_class.add_weight = add_weight


def _numbers_in(path: Path) -> int:
    """How many numbers a file of weights can hold at most: one a byte, packed well."""
    files = path.rglob("*") if path.is_dir() else [path]
    return max(SMALL, WELL_PACKED * sum(file.stat().st_size for file in files if file.is_file()))


# --- what TensorFlow may be asked for --------------------------------------------------------------------------------

# Two lists: functions of the Python interface, which layers of Keras 2 name, and operations, of which graphs consist.
# What is on none of them may read or write files, reach other machines, call Python, or wait for a queue.

Groups = Mapping[str, str]


def _all(groups: Groups) -> frozenset[str]:
    return frozenset(name for names in groups.values() for name in names.split())


# Operations of graphs, by their names in TensorFlow's registry.
OPERATION_GROUPS: Groups = {
    "constants and inputs": """
        Const Fill Identity IdentityN GuaranteeConst LinSpace NoOp OnesLike Placeholder PlaceholderV2
        PlaceholderWithDefault PreventGradient Range Snapshot StopGradient ZerosLike EnsureShape""",
    "control flow": """
        Assert Case ControlTrigger DeviceIndex Enter Exit FakeParam For If LoopCond Merge NextIteration
        PartitionedCall RefEnter RefExit RefIdentity RefMerge RefNextIteration RefSelect RefSwitch
        StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch SymbolicGradient ToBool While""",
    "variables": """
        Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp DestroyResourceOp
        DestroyTemporaryVariable DisableCopyOnRead IsVariableInitialized ReadVariableOp ResourceGather
        ResourceGatherNd ResourceScatterAdd ResourceScatterDiv ResourceScatterMax ResourceScatterMin
        ResourceScatterMul ResourceScatterNdAdd ResourceScatterNdMax ResourceScatterNdMin ResourceScatterNdSub
        ResourceScatterNdUpdate ResourceScatterSub ResourceScatterUpdate ResourceStridedSliceAssign ScatterAdd
        ScatterDiv ScatterMax ScatterMin ScatterMul ScatterNdAdd ScatterNdMax ScatterNdMin ScatterNdSub
        ScatterNdUpdate ScatterSub ScatterUpdate StridedSliceAssign TemporaryVariable VarHandleOp VarIsInitializedOp
        Variable VariableShape VariableV2""",
    "updates of variables in training": """
        ApplyAdaMax ApplyAdadelta ApplyAdagrad ApplyAdagradDA ApplyAdagradV2 ApplyAdam ApplyAddSign
        ApplyCenteredRMSProp ApplyFtrl ApplyFtrlV2 ApplyGradientDescent ApplyMomentum ApplyPowerSign
        ApplyProximalAdagrad ApplyProximalGradientDescent ApplyRMSProp CountUpTo ResourceApplyAdaMax
        ResourceApplyAdadelta ResourceApplyAdagrad ResourceApplyAdagradDA ResourceApplyAdagradV2 ResourceApplyAdam
        ResourceApplyAdamWithAmsgrad ResourceApplyAddSign ResourceApplyCenteredRMSProp ResourceApplyFtrl
        ResourceApplyFtrlV2 ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum
        ResourceApplyPowerSign ResourceApplyProximalAdagrad ResourceApplyProximalGradientDescent
        ResourceApplyRMSProp ResourceCountUpTo ResourceSparseApplyAdagrad ResourceSparseApplyAdagradV2
        ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum ResourceSparseApplyRMSProp""",
    "shapes and places": """
        BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo Cast Concat ConcatOffset
        ConcatV2 ConjugateTranspose DepthToSpace DynamicPartition DynamicStitch Empty ExpandDims Gather GatherNd
        GatherV2 InplaceAdd InplaceSub InplaceUpdate InvertPermutation ListDiff MirrorPad MirrorPadGrad OneHot Pack
        Pad PadV2 ParallelConcat ParallelDynamicStitch Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
        ScatterNdNonAliasingAdd Select SelectV2 Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth
        Split SplitV Squeeze StridedSlice StridedSliceGrad TensorScatterAdd TensorScatterMax TensorScatterMin
        TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile TileGrad Transpose Unique UniqueV2
        UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex Where""",
    "numbers, one by one": """
        Abs AccumulateNV2 Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin Asinh Atan Atan2 Atanh BesselI0
        BesselI0e BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e BesselY0 BesselY1
        Betainc BitwiseAnd BitwiseOr BitwiseXor Ceil CheckNumerics CheckNumericsV2 ClipByValue Complex ComplexAbs
        Conj Cos Cosh Dawsn Digamma Div DivNoNan Equal Erf Erfc Erfinv Exp Expint Expm1 Floor FloorDiv FloorMod
        FresnelCos FresnelSin Greater GreaterEqual Igamma IgammaGradA Igammac Imag Inv InvGrad Invert IsFinite IsInf
        IsNan LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Mod Mul
        MulNoNan Ndtri Neg NextAfter NotEqual Polygamma PopulationCount Pow Real RealDiv Reciprocal ReciprocalGrad
        RightShift Rint Round Rsqrt RsqrtGrad Sigmoid SigmoidGrad Sign Sin Sinh Spence Sqrt SqrtGrad Square
        SquaredDifference Sub Tan Tanh TanhGrad TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Zeta""",
    "sums, products, order": """
        All Any ApproxTopK ArgMax ArgMin Bincount Bucketize Cross Cumprod Cumsum CumulativeLogsumexp DenseBincount
        Einsum EuclideanNorm HistogramFixedWidth InTopK InTopKV2 LowerBound Max Mean Min NthElement Prod SegmentMax
        SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2 SegmentSum SegmentSumV2 Sum TopK
        TopKV2 UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound""",
    "matrices": """
        BandedTriangularSolve BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchMatrixBandPart BatchMatrixDiag
        BatchMatrixDiagPart BatchMatrixInverse BatchMatrixSetDiag Cholesky CholeskyGrad Diag DiagPart Eig
        LogMatrixDeterminant Lu MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2
        MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixExponential MatrixInverse MatrixLogarithm MatrixSetDiag
        MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixSolveLs MatrixSquareRoot MatrixTriangularSolve Qr
        SelfAdjointEig SelfAdjointEigV2 Svd TridiagonalMatMul TridiagonalSolve""",
    "layers": """
        AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BatchNormWithGlobalNormalization
        BatchNormWithGlobalNormalizationGrad BiasAdd BiasAddGrad BiasAddV1 BlockLSTM BlockLSTMGrad BlockLSTMGradV2
        BlockLSTMV2 Conv Conv2D Conv2DBackpropFilter Conv2DBackpropFilterV2 Conv2DBackpropInput
        Conv2DBackpropInputV2 Conv3D Conv3DBackpropFilter Conv3DBackpropFilterV2 Conv3DBackpropInput
        Conv3DBackpropInputV2 CudnnRNN CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3
        CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNParamsToCanonical
        CudnnRNNParamsToCanonicalV2 CudnnRNNV2 CudnnRNNV3 DataFormatDimMap DataFormatVecPermute
        DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput Dilation2D
        Dilation2DBackpropFilter Dilation2DBackpropInput Elu EluGrad FractionalAvgPool FractionalAvgPoolGrad
        FractionalMaxPool FractionalMaxPoolGrad FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2
        FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D GRUBlockCell
        GRUBlockCellGrad IsotonicRegression L2Loss LRN LRNGrad LSTMBlockCell LSTMBlockCellGrad LeakyRelu
        LeakyReluGrad LogSoftmax MaxPool MaxPool3D MaxPool3DGrad MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad
        MaxPoolGradGradV2 MaxPoolGradV2 MaxPoolGradWithArgmax MaxPoolV2 MaxPoolWithArgmax Relu Relu6 Relu6Grad
        ReluGrad Selu SeluGrad Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad
        SparseSoftmaxCrossEntropyWithLogits CTCBeamSearchDecoder CTCGreedyDecoder CTCLoss CTCLossV2""",
    "numbers of few bits": """
        Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars
        FakeQuantWithMinMaxVarsGradient FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxVarsPerChannelGradient
        QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4
        QuantizeAndDequantizeV4Grad QuantizeV2 UniformDequantize UniformQuantize UniformQuantizedAdd
        UniformQuantizedClipByValue UniformQuantizedConvolution UniformQuantizedConvolutionHybrid
        UniformQuantizedDot UniformQuantizedDotHybrid UniformRequantize""",
    "Fourier": """
        FFT FFT2D FFT3D FFTND IFFT IFFT2D IFFT3D IFFTND IRFFT IRFFT2D IRFFT3D IRFFTND RFFT RFFT2D RFFT3D RFFTND
        BatchFFT BatchFFT2D BatchFFT3D BatchIFFT BatchIFFT2D BatchIFFT3D AudioSpectrogram Mfcc""",
    "images": """
        AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize
        CropAndResizeGradBoxes CropAndResizeGradImage ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches
        ExtractVolumePatches HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression
        NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea
        ResizeBicubic ResizeBicubicGrad ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
        ResizeNearestNeighborGrad ScaleAndTranslate ScaleAndTranslateGrad""",
    "random numbers": """
        Multinomial ParameterizedTruncatedNormal RandomCrop RandomGamma RandomGammaGrad RandomIndexShuffle
        RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt
        RngReadAndSkip RngSkip StatefulRandomBinomial StatefulStandardNormal StatefulStandardNormalV2
        StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt StatelessMultinomial
        StatelessParameterizedTruncatedNormal StatelessRandomBinomial StatelessRandomGammaV2 StatelessRandomGammaV3
        StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
        StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform StatelessRandomUniformFullInt
        StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
        StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2
        TruncatedNormal""",
    "lists of tensors": """
        EmptyTensorList TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGradV3
        TensorArrayGradWithShape TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3
        TensorArrayV3 TensorArrayWriteV3 TensorListConcat TensorListConcatLists TensorListConcatV2
        TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
        TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve TensorListResize
        TensorListScatter TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit
        TensorListStack""",
    "ragged and sparse": """
        RaggedGather RaggedRange RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor
        RaggedTensorToVariant RaggedTensorToVariantGradient SparseAdd SparseConcat SparseFillEmptyRows SparseMatMul
        SparseReduceMax SparseReduceSum SparseReorder SparseReshape SparseSegmentMean SparseSegmentSqrtN
        SparseSegmentSum SparseSlice SparseSoftmax SparseSplit SparseTensorDenseAdd SparseTensorDenseMatMul
        SparseToDense""",
}
OPERATIONS = _all(OPERATION_GROUPS)

# What saves and restores the variables is in every SavedModel. Allowed in its saver, which nothing else may call.
SAVER_OPERATIONS = frozenset(
    "MergeV2Checkpoints Restore RestoreSlice RestoreV2 Save SaveSlices SaveV2 ShardedFilename ShardedFilespec "
    "StaticRegexFullMatch StringJoin".split()
)

# Functions of TensorFlow's Python interface, by namespace; "compat.v1." may stand before it.
FUNCTION_GROUPS: Groups = {
    "": """
        abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space bitcast
        boolean_mask broadcast_to cast ceil clip_by_global_norm clip_by_norm clip_by_value complex concat constant
        convert_to_tensor cos cosh cumsum div div_no_nan divide dynamic_partition dynamic_stitch einsum ensure_shape
        equal erf erfc exp expand_dims expm1 eye fill floor floordiv floormod gather gather_nd greater greater_equal
        histogram_fixed_width identity identity_n is_finite is_inf is_nan less less_equal linspace log log1p
        log_sigmoid logical_and logical_not logical_or logical_xor matmul matrix_band_part matrix_diag
        matrix_inverse matrix_transpose maximum meshgrid minimum mod multiply negative norm not_equal one_hot ones
        ones_like pad parallel_stack pow range rank real realdiv reciprocal reduce_all reduce_any reduce_logsumexp
        reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse reverse_sequence reverse_v2
        rint roll round rsqrt saturate_cast scalar_mul scatter_nd searchsorted segment_max segment_mean segment_min
        segment_prod segment_sum sequence_mask shape shape_n sigmoid sign sin sinh size slice sort space_to_batch
        space_to_batch_nd space_to_depth split sqrt square squared_difference squeeze stack stop_gradient
        strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
        tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile to_double to_float to_int32 to_int64 trace
        transpose truediv truncatediv truncatemod unique unique_with_counts unravel_index unsorted_segment_max
        unsorted_segment_mean unsorted_segment_min unsorted_segment_prod unsorted_segment_sqrt_n
        unsorted_segment_sum unstack where where_v2 zeros zeros_like""",
    "__operators__": """
        abs add and div eq floordiv ge getitem gt invert le logical_and logical_not logical_or logical_xor lt matmul
        mod mul ne neg or pow radd ragged_getitem rand rdiv rfloordiv rmatmul rmod rmul ror rpow rsub rtruediv rxor
        sub truediv xor""",
    "math": """
        abs accumulate_n acos acosh add add_n angle approx_max_k approx_min_k argmax argmin asin asinh atan atan2
        atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e betainc bincount ceil confusion_matrix conj cos cosh
        count_nonzero cumprod cumsum cumulative_logsumexp digamma divide divide_no_nan equal erf erfc erfcinv erfinv
        exp expm1 floor floordiv floormod greater greater_equal igamma igammac imag in_top_k invert_permutation
        is_finite is_inf is_nan is_non_decreasing is_strictly_increasing l2_normalize lbeta less less_equal lgamma
        log log1p log_sigmoid log_softmax logical_and logical_not logical_or logical_xor maximum minimum mod
        multiply multiply_no_nan ndtri negative nextafter not_equal polygamma polyval pow real reciprocal
        reciprocal_no_nan reduce_all reduce_any reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean
        reduce_min reduce_prod reduce_std reduce_sum reduce_variance rint round rsqrt scalar_mul segment_max
        segment_mean segment_min segment_prod segment_sum sigmoid sign sin sinh softmax softplus softsign
        special.bessel_i0 special.bessel_i1 special.dawsn special.expint special.spence sqrt square
        squared_difference subtract tan tanh top_k truediv unsorted_segment_max unsorted_segment_mean
        unsorted_segment_min unsorted_segment_prod unsorted_segment_sqrt_n unsorted_segment_sum xdivy xlog1py xlogy
        zero_fraction zeta""",
    "nn": """
        approx_max_k approx_min_k atrous_conv2d atrous_conv2d_transpose avg_pool avg_pool1d avg_pool2d avg_pool3d
        avg_pool_v2 batch_norm_with_global_normalization batch_normalization bias_add conv1d conv1d_transpose conv2d
        conv2d_transpose conv3d conv3d_transpose conv_transpose convolution crelu depth_to_space depthwise_conv2d
        depthwise_conv2d_native dilation2d dropout elu embedding_lookup erosion2d fractional_avg_pool
        fractional_max_pool fused_batch_norm gelu in_top_k l2_loss l2_normalize leaky_relu
        local_response_normalization log_softmax lrn max_pool max_pool1d max_pool2d max_pool3d max_pool_v2
        max_pool_with_argmax moments normalize_moments pool relu relu6 relu_layer selu separable_conv2d sigmoid
        sigmoid_cross_entropy_with_logits silu softmax softmax_cross_entropy_with_logits
        softmax_cross_entropy_with_logits_v2 softplus softsign space_to_batch space_to_depth
        sparse_softmax_cross_entropy_with_logits sufficient_statistics swish tanh top_k
        weighted_cross_entropy_with_logits weighted_moments xw_plus_b zero_fraction experimental.general_dropout
        experimental.stateless_dropout""",
    "linalg": """
        adjoint band_part banded_triangular_solve cholesky cholesky_solve cross det diag diag_part eig eigh
        eigh_tridiagonal eigvals eigvalsh einsum expm eye global_norm inv l2_normalize logdet logm lstsq lu
        lu_matrix_inverse lu_reconstruct lu_solve matmul matrix_rank matrix_transpose matvec norm normalize pinv qr
        set_diag slogdet solve sqrtm svd tensor_diag tensor_diag_part tensordot trace transpose triangular_solve
        tridiagonal_matmul tridiagonal_solve""",
    "signal": """
        dct fft fft2d fft3d fftnd fftshift frame hamming_window hann_window idct ifft ifft2d ifft3d ifftnd ifftshift
        inverse_mdct inverse_stft irfft irfft2d irfft3d irfftnd kaiser_bessel_derived_window kaiser_window
        linear_to_mel_weight_matrix mdct mfccs_from_log_mel_spectrograms overlap_and_add rfft rfft2d rfft3d rfftnd
        stft vorbis_window""",
    "image": """
        adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation central_crop convert_image_dtype
        crop_and_resize crop_to_bounding_box extract_image_patches extract_patches flip_left_right flip_up_down
        grayscale_to_rgb hsv_to_rgb image_gradients pad_to_bounding_box per_image_standardization resize resize_area
        resize_bicubic resize_bilinear resize_image_with_crop_or_pad resize_image_with_pad resize_images
        resize_nearest_neighbor resize_with_crop_or_pad resize_with_pad rgb_to_grayscale rgb_to_hsv rot90
        sobel_edges total_variation transpose""",
    "bitwise": "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift",
    "random": """
        categorical fold_in gamma normal poisson shuffle split stateless_binomial stateless_categorical
        stateless_gamma stateless_normal stateless_parameterized_truncated_normal stateless_poisson
        stateless_truncated_normal stateless_uniform truncated_normal uniform""",
    "sets": "difference intersection size union",
}
FUNCTIONS = frozenset(
    f"{namespace}.{name}" if namespace else name
    for namespace, names in FUNCTION_GROUPS.items()
    for name in names.split()
)

# Attributes of ragged and sparse tensors, which an InstanceProperty layer of Keras 2 reads.
PROPERTIES = frozenset("dense_shape dtype flat_values indices nested_row_splits row_splits shape values".split())


def is_function(symbol: str) -> bool:
    """Whether a TensorFlow name, as layers of Keras 2 store it, is arithmetic on tensors."""
    return symbol.removeprefix("compat.v1.") in FUNCTIONS
