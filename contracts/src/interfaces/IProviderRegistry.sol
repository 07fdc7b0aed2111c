// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Providers, their GPUs and their stage offers
/// @notice A provider is known by its owner's address (cold key). Its operator (hot key) signs receipts and anchors batches.
/// @dev Assumptions: endpoints and hardware are the provider's own words; only the measured score and the attestation hash can be checked. A
/// provider has its own stake's minimum for each offer and each GPU, or it is not serving. What a former operator key signed stays the provider's.
interface IProviderRegistry {
    struct Provider {
        address operator;
        string endpoint;
        bytes32 tlsCertHash;
        uint64 jailedUntil;
        uint64 registeredAt;
    }

    /// @param from when the operator key of the provider changes to this one
    struct Rotation {
        address operator;
        uint64 from;
    }

    /// @param bandwidth memory bandwidth in bytes per second
    /// @param score tokens per second that the provider measured on the reference workload
    /// @param attestationHash hash of an attestation document, or zero
    struct Gpu {
        string model;
        uint64 vram;
        uint64 bandwidth;
        uint64 score;
        bytes32 attestationHash;
    }

    /// @notice Layers `[firstLayer, endLayer)` of a model at prices in wei per million tokens.
    struct Offer {
        bytes32 modelId;
        uint16 firstLayer;
        uint16 endLayer;
        bytes32 executionClass;
        uint128 inputPrice;
        uint128 cachedPrice;
        uint128 outputPrice;
        bool active;
    }

    struct OfferView {
        address provider;
        uint256 offerId;
        address operator;
        string endpoint;
        bytes32 tlsCertHash;
        Offer offer;
    }

    error AlreadyRegistered(address provider);
    error NotRegistered(address provider);
    error OperatorTaken(address operator);
    error StakeBelowMinimum(uint256 has, uint256 needs);
    error BadLayerRange(uint16 firstLayer, uint16 endLayer);
    error NotAllowed(address caller);
    error NoSuchModel(bytes32 modelId);
    error NoSuchOffer(uint256 offerId);
    error NoSuchGpu(uint256 gpuId);
    error NoRotation();
    error StillThawing(uint64 until);
    error Jailed(uint64 until);

    event ProviderRegistered(uint64 sequence, address indexed provider, address indexed operator, string endpoint, bytes32 tlsCertHash);
    event EndpointChanged(uint64 sequence, address indexed provider, string endpoint, bytes32 tlsCertHash);
    event RotationStarted(uint64 sequence, address indexed provider, address indexed operator, uint64 from);
    event OperatorChanged(uint64 sequence, address indexed provider, address indexed operator);
    event GpuRetired(uint64 sequence, address indexed provider, uint256 gpuId);
    event GpuRegistered(
        uint64 sequence,
        address indexed provider,
        uint256 gpuId,
        string model,
        uint64 vram,
        uint64 bandwidth,
        uint64 score,
        bytes32 attestationHash
    );
    event OfferMade(uint64 sequence, address indexed provider, bytes32 indexed modelId, uint256 offerId, Offer offer);
    event OfferWithdrawn(uint64 sequence, address indexed provider, bytes32 indexed modelId, uint256 offerId);
    event ProviderJailed(uint64 sequence, address indexed provider, uint64 until);
    event ProviderUnjailed(uint64 sequence, address indexed provider);

    /// @notice Registers the caller as a provider with an operator key that no other provider has had.
    function register(address operator, string calldata endpoint, bytes32 tlsCertHash) external;

    function setEndpoint(string calldata endpoint, bytes32 tlsCertHash) external;

    /// @notice Announces a new operator key, which takes over after `rotationThaw` by `finishRotation`. A new announcement replaces the old.
    function startRotation(address operator) external;

    /// @notice Puts the announced key in place. The old one no longer anchors, but stays bound to the provider.
    function finishRotation() external;

    /// @notice Registers a GPU. Needs own stake of `gpuStake` for it.
    function registerGpu(Gpu calldata gpu) external returns (uint256 gpuId);

    /// @notice Takes a GPU off the books, and its minimum with it.
    function retireGpu(uint256 gpuId) external;

    /// @notice Offers a stage of an active model, cut where the model allows it. Needs own stake of `minimumStake` for it.
    function makeOffer(Offer calldata offer) external returns (uint256 offerId);

    function withdrawOffer(uint256 offerId) external;

    /// @notice Takes the provider out of routing for the jail period. Disputes only.
    function jail(address provider) external;

    /// @notice Ends the caller's jail once its time has passed.
    function unjail() external;

    /// @notice The provider that `operator` is or was a key of.
    function providerOf(address operator) external view returns (address);

    /// @notice The provider whose operator key this is now; zero for a former key.
    function providerOfOperator(address operator) external view returns (address);

    function rotationOf(address provider) external view returns (Rotation memory);

    /// @notice The own stake that the provider's offers and GPUs ask for.
    function requiredStake(address provider) external view returns (uint256);

    function providerInfo(address provider) external view returns (Provider memory);

    function gpusOf(address provider) external view returns (Gpu[] memory);

    function offersOf(address provider) external view returns (Offer[] memory);

    function offerAt(address provider, uint256 offerId) external view returns (Offer memory);

    /// @notice Whether the provider may be given work: registered, not jailed, and staked for each of its offers and GPUs.
    function isServing(address provider) external view returns (bool);

    /// @notice All offers of a model by providers that may be given work. For off-chain use: it walks all providers.
    function offersFor(bytes32 modelId) external view returns (OfferView[] memory);
}
