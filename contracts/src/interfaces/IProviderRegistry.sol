// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Providers, their GPUs and their stage offers
/// @notice A provider is known by its owner's address (cold key). Its operator (hot key) signs receipts and anchors batches.
/// @dev Assumptions: endpoints and hardware are the provider's own words; only the measured score and the attestation hash can be checked.
interface IProviderRegistry {
    struct Provider {
        address operator;
        string endpoint;
        bytes32 tlsCertHash;
        uint64 jailedUntil;
        uint64 registeredAt;
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
    error NoSuchOffer(uint256 offerId);
    error Jailed(uint64 until);

    event ProviderRegistered(uint64 sequence, address indexed provider, address indexed operator, string endpoint, bytes32 tlsCertHash);
    event EndpointChanged(uint64 sequence, address indexed provider, string endpoint, bytes32 tlsCertHash);
    event OperatorChanged(uint64 sequence, address indexed provider, address indexed operator);
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

    /// @notice Replaces the operator key. The old key stays bound to this provider, so what it signed stays attributable.
    function setOperator(address operator) external;

    function registerGpu(Gpu calldata gpu) external returns (uint256 gpuId);

    /// @notice Offers a stage. Needs `minimumStake` for each active offer.
    function makeOffer(Offer calldata offer) external returns (uint256 offerId);

    function withdrawOffer(uint256 offerId) external;

    /// @notice Takes the provider out of routing for the jail period. Disputes only.
    function jail(address provider) external;

    /// @notice Ends the caller's jail once its time has passed.
    function unjail() external;

    function providerOf(address operator) external view returns (address);

    function providerInfo(address provider) external view returns (Provider memory);

    function gpusOf(address provider) external view returns (Gpu[] memory);

    function offersOf(address provider) external view returns (Offer[] memory);

    function offerAt(address provider, uint256 offerId) external view returns (Offer memory);

    /// @notice Whether the provider may be given work: registered, not jailed, and staked for each of its offers.
    function isServing(address provider) external view returns (bool);

    /// @notice All offers of a model by providers that may be given work. For off-chain use: it walks all providers.
    function offersFor(bytes32 modelId) external view returns (OfferView[] memory);
}
